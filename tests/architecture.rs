//! The map in `src/lib.rs` is true: modules depend on those above them in its table only, and the engine is pure.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a module, with their text.
fn files(module: &str) -> Vec<(PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![source.join(format!("{module}.rs")), source.join(module)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .expect("a directory can be listed")
                    .map(|entry| entry.expect("an entry can be read").path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            found.push((path, text));
        }
    }
    found
}

/// The modules of the table, in its order; those of one row know nothing of each other but what is above, or left, of them.
fn table() -> Vec<String> {
    let map =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("the map can be read");
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.flat_map(|row| {
        format!("[`{}", row.split('|').next().unwrap_or_default())
            .split("[`")
            .skip(1)
            .map(|name| name.split('`').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn the_map_names_every_module() {
    let map =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("the map can be read");
    let mut modules: Vec<_> =
        map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect();
    let mut named = table();
    modules.sort();
    named.sort();
    assert_eq!(named, modules);
}

#[test]
fn modules_depend_on_those_above_them() {
    let table = table();
    let mut wrong = Vec::new();
    for (rank, module) in table.iter().enumerate() {
        for (path, text) in files(module) {
            for (line, used) in text
                .lines()
                .enumerate()
                .flat_map(|(line, text)| text.split("crate::").skip(1).map(move |rest| (line + 1, rest)))
            {
                let used: String =
                    used.trim_start_matches('{').chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if table.iter().position(|other| *other == used).is_some_and(|other| other > rank) {
                    wrong.push(format!("{}:{line} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the map in src/lib.rs has these the other way round:\n{}", wrong.join("\n"));
}

#[test]
fn the_engine_is_pure() {
    const IMPURE: [&str; 12] = [
        "std::io",
        "std::fs",
        "std::net",
        "std::thread",
        "std::sync::Mutex",
        "Instant",
        "SystemTime",
        "async ",
        "HashMap",
        "HashSet",
        "tracing::",
        "rand::",
    ];
    let mut wrong = Vec::new();
    for (path, text) in files("engine").into_iter().chain(files("types")) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{}:{} uses {word}", path.display(), number + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "a decision must depend on its command and its state alone:\n{}", wrong.join("\n"));
}
