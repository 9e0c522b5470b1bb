//! The picture as a page that needs nothing else: the template, and the data in it.

use serde_json::json;

use super::super::html::escaped;
use super::picture::{Picture, TOLD};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Colours of clusters, told apart on light and on dark ground.
pub(super) const COLORS: [(&str, &str); 12] = [
    ("#2f66c4", "#7da9f2"),
    ("#c4521a", "#f29b62"),
    ("#1f8659", "#63c998"),
    ("#a63c98", "#e08ed6"),
    ("#96720a", "#d9b84c"),
    ("#c2384c", "#f28791"),
    ("#1c8896", "#5ec8d6"),
    ("#6a50c6", "#ab98f5"),
    ("#6f8418", "#b9cb5c"),
    ("#bd4f88", "#f295c2"),
    ("#56657a", "#a6b4c6"),
    ("#8a5838", "#d1a585"),
];

/// The parts of a coordinate on the page.
const STEPS: f64 = 65_535.0;

/// The parts of a cosine.
const PARTS: f32 = 10_000.0;

/// The page of a picture.
pub(super) fn page(picture: &Picture) -> String {
    let light: Vec<&str> = COLORS.iter().map(|pair| pair.0).collect();
    let dark: Vec<&str> = COLORS.iter().map(|pair| pair.1).collect();
    let colors = format!("--light: {}; --dark: {};", light.join(" "), dark.join(" "));
    let style = STYLE.replace("/*COLORS*/", &colors);
    // What comes from the table goes in last, so that no mark is looked for in it.
    PAGE.replace("/*STYLE*/", &style)
        .replace("/*SCRIPT*/", SCRIPT)
        .replace("<!--TITLE-->", &escaped(&picture.title).replace("<!--", ""))
        .replace("<!--DATA-->", &data(picture))
}

/// The data as JSON that no HTML is found in.
fn data(picture: &Picture) -> String {
    let names: Vec<&str> = picture.points.iter().map(|point| point.name.as_str()).collect();
    let ids: Vec<u64> = picture.points.iter().map(|point| point.id).collect();
    let data = json!({
        "title": picture.title,
        "subtitle": picture.subtitle,
        "clusters": picture.clusters,
        "names": names,
        "ids": ids,
        "near": near(picture),
        "points": base64(&packed(picture)),
    });
    in_script(&data.to_string())
}

/// The neighbours that each point is packed with.
fn near(picture: &Picture) -> usize {
    picture.points.iter().map(|point| point.near.len()).max().unwrap_or(0).min(TOLD)
}

/// A JSON text in which nothing ends a script, starts a comment or breaks a line.
fn in_script(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
    text
}

/// For each point: x and y, its cluster, and for each neighbour its number and its cosine in
/// ten thousandths; two bytes each, one for the cluster.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within their range")]
fn packed(picture: &Picture) -> Vec<u8> {
    let near = near(picture);
    let mut bytes = Vec::with_capacity(picture.points.len() * (5 + 4 * near));
    for point in &picture.points {
        for value in point.place {
            bytes.extend(((value.clamp(0.0, 1.0) * STEPS).round() as u16).to_le_bytes());
        }
        bytes.push(u8::try_from(point.cluster).unwrap_or(u8::MAX));
        for index in 0..near {
            let (other, cosine) = point.near.get(index).copied().unwrap_or((usize::MAX, 0.0));
            bytes.extend(u16::try_from(other).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend(((cosine * PARTS).round() as i16).to_le_bytes());
        }
    }
    bytes
}

/// Bytes as text (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > group.len() { '=' } else { digit.into() });
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::needless_for_each
    )]

    use super::super::picture::{Point, shown};
    use super::*;

    /// A picture of what tokens should not be.
    pub(in super::super) fn hostile(count: usize) -> Picture {
        let tokens =
            ["</script><b>'\"&", "<!--\u{202e}", "\u{2028}\u{0}\u{1b}", "<!--DATA-->", "猫"];
        let point = |at: usize| Point {
            id: u64::MAX - at as u64,
            name: shown(tokens[at % tokens.len()]),
            place: [at as f64 / 40.0, (at * 7 % 40) as f64 / 40.0],
            cluster: at % 2,
            near: (0..3.min(count - 1)).map(|step| ((at + step + 1) % count, 0.5)).collect(),
        };
        Picture {
            title: "</title><script>alert(1)</script>".to_owned(),
            subtitle: "</desc>".to_owned(),
            points: (0..count).map(point).collect(),
            clusters: vec!["</g>".to_owned(), "b".to_owned()],
        }
    }

    #[test]
    fn nothing_from_the_table_is_markup() {
        let page = page(&hostile(40));
        for part in ["alert(1)</script>", "</script><b>", "\u{202e}", "\u{2028}", "\u{0}"] {
            assert!(!page.contains(part), "{part:?}");
        }
        // The page's own scripts and no others.
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches("</script").count(), 2);
        for mark in ["/*STYLE*/", "/*SCRIPT*/", "<!--", "/*COLORS*/"] {
            assert!(!page.contains(mark), "{mark}");
        }
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("Content-Security-Policy"));
    }

    #[test]
    fn data_are_what_was_drawn() {
        let picture = hostile(40);
        let text = data(&picture);
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(data["names"][0], "</script><b>'\"&");
        assert_eq!(data["ids"][1].as_u64(), Some(u64::MAX - 1));
        assert_eq!((data["near"].as_u64(), data["names"].as_array().unwrap().len()), (Some(3), 40));
        let bytes = packed(&picture);
        assert_eq!(bytes.len(), 40 * 17);
        assert_eq!(bytes[..9], [0, 0, 0, 0, 0, 1, 0, 0x88, 0x13]);
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg==");
        assert_eq!(base64(b"fo"), "Zm8=");
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
    }

    #[test]
    fn one_point_is_a_picture() {
        assert!(page(&hostile(1)).contains("\"near\":0"));
    }
}
