//! The rules of the house, checked on the source itself: who may use whom, where `unsafe`
//! may stand, how long a file may be.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may use, besides itself. A room is a file or folder of `src/`.
const MAY_USE: [(&str, &[&str]); 27] = [
    ("error", &["dtype"]),
    ("dtype", &[]),
    ("codec", &["error", "dtype"]),
    ("layout", &["error", "dtype", "codec"]),
    ("storage", &["error", "dtype", "codec", "layout"]),
    ("tokens", &["error", "dtype", "codec", "layout", "storage"]),
    ("checks", &["error", "dtype", "codec", "layout", "storage"]),
    ("order", &["error", "storage"]),
    ("format", &["error", "dtype", "codec", "layout", "storage", "tokens", "checks", "order"]),
    ("source", &["error", "dtype", "codec", "layout", "storage", "tokens", "checks"]),
    ("table", &["error", "dtype", "codec", "layout", "storage", "tokens", "checks", "order"]),
    ("gather", &["error", "dtype", "codec", "layout", "storage", "tokens", "checks", "table"]),
    ("residency", &["error", "layout", "storage", "checks", "table"]),
    (
        "verify",
        &["error", "dtype", "codec", "layout", "storage", "tokens", "checks", "order", "table"],
    ),
    ("search", &["error", "dtype", "codec", "layout", "storage", "table", "gather"]),
    ("inspect", &["error", "dtype", "codec", "layout", "storage", "tokens", "table", "gather"]),
    ("text", &["error", "dtype", "source", "table", "gather"]),
    ("arrange", &["error", "gather"]),
    ("publish", &["error", "storage"]),
    (
        "open",
        &[
            "error", "dtype", "codec", "layout", "storage", "tokens", "checks", "order", "table",
            "format", "source",
        ],
    ),
    (
        "writer",
        &[
            "error", "dtype", "codec", "layout", "storage", "tokens", "checks", "order", "table",
            "format", "open", "publish",
        ],
    ),
    (
        "import",
        &[
            "error", "dtype", "codec", "layout", "storage", "tokens", "table", "source", "open",
            "gather",
        ],
    ),
    (
        "convert",
        &[
            "error", "dtype", "codec", "layout", "storage", "tokens", "checks", "table", "source",
            "open", "gather", "writer", "import", "publish",
        ],
    ),
    (
        "export",
        &[
            "error", "dtype", "codec", "layout", "storage", "tokens", "table", "source", "gather",
            "convert", "publish",
        ],
    ),
    ("cli", &[]),
    ("main", &["cli"]),
    // The list of public names.
    ("lib", &["*"]),
];

/// Where `unsafe` may be allowed by name.
const MAY_BE_UNSAFE: [&str; 4] =
    ["src/storage/", "src/codec/x86/", "src/open.rs", "src/cli/open.rs"];

/// The most lines of a file, without its tests.
const MOST_LINES: usize = 450;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    found.sort();
    assert!(found.len() > 20, "the tests run from the package's root");
    found
}

/// The room of a file: the first name below `src/`, without `.rs`.
fn room(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The text without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The rooms that a text names after `crate::`, one by one or in braces.
fn rooms_named(code: &str, rooms: &BTreeMap<&str, &[&str]>) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if rest.starts_with('{') {
            let inner = &rest[1..rest.find("};").unwrap()];
            named.extend(
                inner.split(',').map(|part| part.trim().split("::").next().unwrap().to_owned()),
            );
        } else {
            named.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    named.retain(|name| rooms.contains_key(name.as_str()));
    named
}

#[test]
fn rooms_use_only_what_lies_before_them() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let room = room(&path);
        let may = rules.get(room.as_str()).unwrap_or_else(|| panic!("{room}: no import rule"));
        for used in rooms_named(&code(&text), &rules) {
            if used != room && !may.contains(&used.as_str()) && !may.contains(&"*") {
                broken.push(format!("{}: {room} may not use {used}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_rule_has_no_circles() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    for (room, uses) in &rules {
        for used in *uses {
            assert!(
                !rules.get(used).is_some_and(|theirs| theirs.contains(room)),
                "{room} and {used} may use each other"
            );
        }
    }
}

#[test]
fn the_command_line_uses_the_library_like_any_user() {
    for (path, text) in sources() {
        if matches!(room(&path).as_str(), "cli" | "main") {
            for (number, line) in code(&text).lines().enumerate() {
                let inside = line.contains("crate::") && !line.contains("crate::cli");
                assert!(!inside, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_may() {
    for (path, text) in sources() {
        let allowed =
            MAY_BE_UNSAFE.iter().any(|place| path.starts_with(place.trim_end_matches('/')));
        for (number, line) in code(&text).lines().enumerate() {
            let unsafe_code = ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"]
                .iter()
                .any(|word| line.contains(word));
            let names_storage = line.contains("allow(unsafe_code)") && path.ends_with("src/lib.rs");
            assert!(
                !unsafe_code || allowed || names_storage,
                "{}:{}: unsafe outside the rooms that may hold it",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn files_are_rooms_not_halls() {
    for (path, text) in sources() {
        let lines = text.split("#[cfg(test)]\nmod ").next().unwrap().lines().count();
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        assert!(
            is_test || lines <= MOST_LINES,
            "{}: {lines} lines before its tests",
            path.display()
        );
    }
}

#[test]
fn mod_files_are_short_lists() {
    for (path, text) in sources() {
        if path.ends_with("mod.rs") && !path.components().any(|part| part.as_os_str() == "tests") {
            let lines = code(&text).lines().filter(|line| !line.trim().is_empty()).count();
            assert!(lines <= 120, "{}: {lines} lines of code", path.display());
        }
    }
}

/// The rows of the table in `docs/design.md` that says where `unsafe` stands, and why.
fn unsafe_inventory() -> Vec<String> {
    let design = fs::read_to_string("docs/design.md").unwrap();
    let section = design.split("\n## unsafe\n").nth(1).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let places = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(','));
    places.map(|place| place.trim().trim_matches('`').to_owned()).collect()
}

/// The inventory names each file with `unsafe`, by itself or by its folder, and no other.
#[test]
fn the_inventory_of_unsafe_is_complete() {
    let inventory = unsafe_inventory();
    assert!(inventory.len() > 5, "{inventory:?}");
    let mut used = vec![false; inventory.len()];
    let mut missing = Vec::new();
    for (path, text) in sources() {
        let code = code(&text);
        if !["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|word| code.contains(word)) {
            continue;
        }
        let below = path.strip_prefix("src").unwrap().to_str().unwrap();
        let named =
            |place: &str| place == below || place.ends_with('/') && below.starts_with(place);
        let mut places = inventory.iter().enumerate().filter(|(_, place)| named(place)).peekable();
        if places.peek().is_none() {
            missing.push(below.to_owned());
        }
        places.for_each(|(index, _)| used[index] = true);
    }
    assert!(missing.is_empty(), "not in the inventory of docs/design.md: {missing:?}");
    let gone: Vec<_> = inventory
        .iter()
        .zip(used)
        .filter(|(place, used)| !used && !place.starts_with("python/"))
        .collect();
    assert!(gone.is_empty(), "in the inventory, and without unsafe: {gone:?}");
}
