//! One contender of `run.sh`: `embmap` or `model2vec-rs`.
//!
//! `sentences CONTENDER MODEL TEXTS THREADS` makes the vectors of all lines of a file, once to warm
//! up and once on time, and prints the seconds. With `-` for the file it makes the vector of one
//! text and prints its first number: what a process that starts has to do.

use std::time::Instant;

use embmap::{OpenOptions, StaticModel};

const TEXT: &str = "a cat sat on the mat";
const BATCH: usize = 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [contender, model, texts, threads] = &arguments[..] else {
        panic!("expected CONTENDER MODEL TEXTS THREADS");
    };
    let lines: Option<Vec<String>> = (texts != "-").then(|| {
        let text = std::fs::read_to_string(texts).unwrap();
        text.lines().map(str::to_owned).collect()
    });
    match contender.as_str() {
        "embmap" => {
            let options = OpenOptions::new().threads(threads.parse().unwrap()).static_model(true);
            // SAFETY: nothing writes to the model's files while they are mapped.
            let model = StaticModel::new(unsafe { options.map(model).unwrap() }).unwrap();
            let Some(lines) = lines else {
                println!("{}", model.embed(TEXT).unwrap()[0]);
                return;
            };
            let dim = model.table().dim();
            let mut out = vec![0f32; lines.len() * dim];
            time(|| {
                for (lines, out) in lines.chunks(BATCH).zip(out.chunks_mut(BATCH * dim)) {
                    model.embed_into(lines, out).unwrap();
                }
            });
        }
        "model2vec-rs" => {
            let model = model2vec_rs::model::StaticModel::from_pretrained(model, None, None, None);
            let model = model.unwrap();
            let Some(lines) = lines else {
                println!("{}", model.encode_single(TEXT)[0]);
                return;
            };
            time(|| assert_eq!(model.encode(&lines).len(), lines.len()));
        }
        other => panic!("no contender {other}"),
    }
}

fn time(mut run: impl FnMut()) {
    run();
    let start = Instant::now();
    run();
    println!("{}", start.elapsed().as_secs_f64());
}
