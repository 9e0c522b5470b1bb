//! What a file is, as far as its first bytes and its name tell.

use super::{gguf, npy, safetensors, zip};

/// The first bytes of a file that tell what it is.
pub(crate) const HEAD: u64 = 4096;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Emb,
    Safetensors,
    Gguf,
    Npy,
    Zip,
    Parquet,
    /// Arrow's IPC format with an index at its end.
    ArrowFile,
    /// Arrow's IPC format as a stream.
    ArrowStream,
    Gzip,
    Zstd,
    /// The header of word2vec: two numbers on a line. What follows is text or binary.
    Word2Vec,
    /// Lines that end in numbers, as `GloVe` has them.
    Lines,
    Pickle,
    /// fastText's own model, whose rows are not words.
    FastTextModel,
    Hdf5,
    Sqlite,
    Unknown,
}

impl Kind {
    /// What a file is that starts with `head` and has the name `name`.
    pub(crate) fn of(head: &[u8], name: &str) -> Self {
        let name = name.to_lowercase();
        let named = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        let pickle_name = [".bin", ".pt", ".pth", ".ckpt", ".pkl"];
        match head {
            [0x89, b'E', b'M', b'B', ..] => Kind::Emb,
            // First of all: the length of a header may begin like a pickle or a gzip stream,
            // and none of those begins like a length and an object.
            _ if safetensors::looks_like(head) => Kind::Safetensors,
            _ if npy::looks_like(head) => Kind::Npy,
            _ if gguf::looks_like(head) => Kind::Gguf,
            // PyTorch has put its pickles in zip archives since 1.6.
            _ if zip::looks_like(head) && named(&pickle_name) => Kind::Pickle,
            _ if zip::looks_like(head) => Kind::Zip,
            [b'P', b'A', b'R', b'1', ..] => Kind::Parquet,
            [b'A', b'R', b'R', b'O', b'W', b'1', 0, 0, ..] => Kind::ArrowFile,
            [0xff, 0xff, 0xff, 0xff, ..] => Kind::ArrowStream,
            [0x1f, 0x8b, ..] => Kind::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::Zstd,
            [0x80, 2..=5, ..] => Kind::Pickle,
            _ if is_old_pickle(head) => Kind::Pickle,
            [0xba, 0x16, 0x4f, 0x2f, ..] => Kind::FastTextModel,
            [0x89, b'H', b'D', b'F', ..] => Kind::Hdf5,
            _ if head.starts_with(b"SQLite format 3\0") => Kind::Sqlite,
            _ if named(&[".safetensors"]) => Kind::Safetensors,
            _ if word2vec_header(head).is_some() => Kind::Word2Vec,
            _ if ends_in_a_number(head) => Kind::Lines,
            _ if named(&[".emb"]) => Kind::Emb,
            _ if named(&pickle_name) => Kind::Pickle,
            _ if named(&[".npy"]) => Kind::Npy,
            _ if named(&[".npz"]) => Kind::Zip,
            _ => Kind::Unknown,
        }
    }

    /// Why a file of this kind is not read in place, and what to do; `None` where it is, or
    /// where nobody knows what it is.
    pub(crate) fn refusal(self) -> Option<String> {
        let convert = |what: &str| {
            Some(format!("{what}, which is not read in place; convert it: embmap convert"))
        };
        match self {
            Kind::Emb | Kind::Safetensors | Kind::Gguf | Kind::Npy | Kind::Zip | Kind::Unknown => {
                None
            }
            Kind::Parquet => convert("a Parquet file"),
            Kind::ArrowFile | Kind::ArrowStream => convert("an Arrow file"),
            Kind::Gzip => convert("a gzip stream"),
            Kind::Zstd => convert("a zstd stream"),
            Kind::Word2Vec => convert("word2vec or fastText vectors"),
            Kind::Lines => convert("lines of tokens and numbers, as of GloVe"),
            Kind::Pickle => Some(format!("a pickle by its name or first bytes; {PICKLE}")),
            Kind::FastTextModel => Some(
                "a fastText model, whose rows are not words but the n-grams they are the mean \
                 of; save the words as .vec, in Python: model.get_words() and \
                 model.get_word_vector(word)"
                    .to_owned(),
            ),
            Kind::Hdf5 => Some(
                "an HDF5 file, which embmap does not read; save the array with np.save".to_owned(),
            ),
            Kind::Sqlite => Some(
                "an SQLite database, as of Magnitude, which embmap does not read; save the \
                 vectors as word2vec text or with np.save"
                    .to_owned(),
            ),
        }
    }
}

/// What is said of pickles.
pub(super) const PICKLE: &str = "a pickle can run any program and is never read; save the model as safetensors, in Python: safetensors.torch.save_file(state_dict, \"model.safetensors\"), or model.save_pretrained(dir, safe_serialization=True)";

/// True for a pickle of protocol 0 or 1, which have no mark of their own: a dictionary, a list, or
/// an object of a class, as Python's own writer starts them.
fn is_old_pickle(head: &[u8]) -> bool {
    match head {
        [b'(', b'd' | b'l', rest @ ..] | [b'}' | b']', rest @ ..] => is_noted(rest),
        [b'(', b'c' | b'i', rest @ ..] | [b'c', rest @ ..] => {
            let name = |text: &[u8]| {
                let length = text.iter().position(|byte| *byte == b'\n')?;
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.".contains(byte);
                (length > 0 && text[..length].iter().all(is_name)).then_some(length + 1)
            };
            let module = name(rest);
            let class = module.and_then(|module| Some(module + name(&rest[module..])?));
            class.is_some_and(|end| rest[end..].starts_with(b"(") || is_noted(&rest[end..]))
        }
        _ => false,
    }
}

/// True where a value is noted for later: `p`, a number and a line's end, or `q` and a small byte.
fn is_noted(rest: &[u8]) -> bool {
    match rest {
        [b'q', place, ..] => *place < b' ',
        [b'p', digits @ ..] => {
            let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            length > 0 && digits.get(length) == Some(&b'\n')
        }
        _ => false,
    }
}

/// The numbers of a first line that has two and nothing else, and its length with its end.
pub(crate) fn word2vec_header(head: &[u8]) -> Option<(u64, u64, usize)> {
    /// Two numbers of 20 digits.
    const LONGEST: usize = 48;
    // A space before them would be an empty token.
    head.first().filter(|byte| byte.is_ascii_digit())?;
    let length = head.iter().take(LONGEST).position(|byte| *byte == b'\n')? + 1;
    let line = std::str::from_utf8(&head[..length]).ok()?;
    let mut numbers = line.split_ascii_whitespace();
    let mut number = || {
        let digits = numbers.next()?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (vocab, dim) = (number()?, number()?);
    numbers.next().is_none().then_some((vocab, dim, length))
}

/// True where the first line is text of which the last field there is is a number.
fn ends_in_a_number(head: &[u8]) -> bool {
    let end = head.iter().position(|byte| *byte == b'\n');
    let line = &head[..end.unwrap_or(head.len())];
    if line.contains(&0) {
        return false;
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut fields = line.trim_ascii_end().split(is_space).rev();
    // A line longer than the head may end within a number.
    let last = if end.is_none() { fields.nth(1) } else { fields.next() };
    let is_number =
        |field: &[u8]| std::str::from_utf8(field).is_ok_and(|field| field.parse::<f64>().is_ok());
    last.is_some_and(is_number) && fields.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_goes_before_names() {
        for (head, name, kind) in [
            (&b"\x93NUMPY\x01\x00"[..], "x.txt", Kind::Npy),
            (b"GGUF\x03\0\0\0", "x", Kind::Gguf),
            (b"PK\x03\x04", "x.npz", Kind::Zip),
            (b"PK\x03\x04", "model.pt", Kind::Pickle),
            (b"PK\x03\x04", "pytorch_model.bin", Kind::Pickle),
            (b"PAR1", "x", Kind::Parquet),
            (b"ARROW1\0\0", "x.feather", Kind::ArrowFile),
            (b"\xff\xff\xff\xff\x10\0\0\0", "x.arrow", Kind::ArrowStream),
            (b"\x1f\x8b\x08", "x.txt", Kind::Gzip),
            (b"\x28\xb5\x2f\xfd", "x.txt", Kind::Zstd),
            (b"\x80\x02}q", "x.vec", Kind::Pickle),
            (b"\x80\x04\x95\x10\0\0\0\0\0", "x.vec", Kind::Pickle),
            (b"(dp0\nVweight\np1\ncposix\nsystem\n", "x.npy", Kind::Pickle),
            (b"(lp1\n.", "x", Kind::Pickle),
            (b"}q\0X\x06\0\0\0weight", "x.npz", Kind::Pickle),
            (b"]q\0(K\x01e.", "x.vec", Kind::Pickle),
            (b"cnumpy.core.multiarray\n_reconstruct\np0\n(", "x.npy", Kind::Pickle),
            (b"cnumpy._core.multiarray\n_reconstruct\nq\0(", "x.npy", Kind::Pickle),
            (b"ccopy_reg\n_reconstructor\n(c__main__\n", "x", Kind::Pickle),
            (b"(i__main__\nModel\np0\n", "x", Kind::Pickle),
            (b"cat\ndog\nqueen\n", "vocab.txt", Kind::Unknown),
            (b"cat\ndog\npen\n", "vocab.txt", Kind::Unknown),
            (b"(dp 0.5 0.25\n", "x.txt", Kind::Lines),
            (b"c\n0.1 0.2\n", "x.txt", Kind::Unknown),
            (b"\x80\x02\0\0\0\0\0\0{", "x", Kind::Safetensors),
            (b"\x1f\x8b\0\0\0\0\0\0{", "x", Kind::Safetensors),
            (b"\xba\x16\x4f\x2f\x0c\0\0\0", "cc.en.300.bin", Kind::FastTextModel),
            (b"\x89HDF\r\n\x1a\n", "x.h5", Kind::Hdf5),
            (b"SQLite format 3\0", "x.magnitude", Kind::Sqlite),
            (b"3000000 300\n</s> ", "GoogleNews.bin", Kind::Word2Vec),
            (b"2 3\r\na 1 2 3\r\n", "x", Kind::Word2Vec),
            (b"2 3 \na 1 2 3\n", "x", Kind::Word2Vec),
            (b"the 0.1 -2e-3\ncat 1 2\n", "x", Kind::Lines),
            (b"the\t0.1\t-2e-3", "x", Kind::Lines),
            (b" 1 2\n", "x", Kind::Lines),
            (b"the cat sat on the mat\n", "x.txt", Kind::Unknown),
            (b"2 3", "x", Kind::Unknown),
            (b"nothing", "model.bin", Kind::Pickle),
            (b"nothing", "x.npy", Kind::Npy),
            (b"nothing", "x.safetensors", Kind::Safetensors),
            (b"", "x", Kind::Unknown),
            (b"a\0b 1.0\n", "x", Kind::Unknown),
        ] {
            assert_eq!(Kind::of(head, name), kind, "{name} {:?}", head.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_header_is_two_numbers_on_a_line() {
        assert_eq!(word2vec_header(b"12 300\nthe"), Some((12, 300, 7)));
        assert_eq!(word2vec_header(b"12\t300\r\nthe"), Some((12, 300, 8)));
        for not in
            [&b"12 300"[..], b"12\n", b"12 300 1\n", b"-1 3\n", b"+1 3\n", b"a 3\n", b"1 1.5\n"]
        {
            assert_eq!(word2vec_header(not), None);
        }
        assert_eq!(word2vec_header(b"99999999999999999999 3\n"), None);
    }
}
