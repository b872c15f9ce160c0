//! Holds the house rules that no lint can: who may import whom, how long a file may be, and that each says what it is.
//!
//! Function length is clippy's (`too_many_lines`, 70). Test code is exempt from the import table.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::Span;
use syn::{
    Attribute, Item, ItemMod, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// Non-test lines of one file.
const FILE_LINES_MAX: usize = 700;

/// Modules without rank: they use only `media` and each other, and any part that may do I/O may use them.
const LEAVES: &[&str] = &["net", "observe", "clock", "limits", "config", "task", "secret"];

/// Parts without I/O: of the leaves they get what is named in their row.
const SANS_IO: &[&str] = &["media", "proto"];

/// The import table: a part, and what of ours it may use besides itself and the leaves.
const IMPORTS: &[(&str, &[&str])] = &[
    ("media", &["limits"]),
    ("proto", &["media", "limits"]),
    ("hub", &["media"]),
    ("ingest", &["media", "proto", "hub"]),
    ("egress", &["media", "proto", "hub"]),
    ("relay", &["media", "proto", "hub"]),
    ("transcode", &["media", "hub"]),
    ("control", &["media", "hub"]),
    ("console", &["media", "control"]),
];

/// They wire the parts together, so they see all of them.
const WIRING: &[&str] = &["server", "cli", "main", "lib"];

/// What would give `media` or `proto` a socket, a clock or a task.
const IO_CRATES: &[&str] = &[
    "tokio",
    "quinn",
    "axum",
    "hyper",
    "hyper_util",
    "reqwest",
    "socket2",
    "std::net",
    "std::fs",
    "std::thread",
    "std::time::SystemTime",
];

#[test]
fn imports_follow_the_table() {
    let mut wrong = String::new();
    for file in rust_files("src") {
        for (path, line) in imports(&file) {
            if let Err(why) = judge(top_module(&file.module), &path) {
                writeln!(wrong, "{}:{line}: `{}`: {why}", file.path.display(), path.join("::")).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_table_refuses_what_it_should() {
    let judged = |text: &str, module: &[&str]| {
        let file = File::parse("src/x.rs".into(), text.into(), module);
        imports(&file).iter().map(|(path, _)| judge(top_module(&file.module), path).is_err()).collect::<Vec<_>>()
    };
    assert_eq!(judged("use crate::{media::Frame, hub::Hub};", &["proto", "rtmp"]), [false, true]);
    assert_eq!(judged("fn f() { crate::clock::now(); }", &["proto", "flv"]), [true], "a path without `use`");
    assert_eq!(judged("use super::super::hub::Hub;", &["proto", "rtmp"]), [true], "a way round through super");
    assert_eq!(judged("use super::chunk::Chunk;", &["proto", "rtmp"]), [false]);
    assert_eq!(judged("use tokio::net::TcpStream;", &["proto", "rtmp"]), [true]);
    assert_eq!(judged("use crate::{control::auth::Auth, net::access::Access};", &["ingest"]), [true, false]);
    assert_eq!(judged("#[cfg(test)] mod tests { use crate::server::Server; }", &["proto"]), [false; 0]);
}

#[test]
fn files_stay_short() {
    let long: Vec<_> = rust_files("src")
        .into_iter()
        .map(|file| (file.path.clone(), file.lines_without_tests()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .collect();
    assert!(long.is_empty(), "over {FILE_LINES_MAX} lines without tests: {long:?}");
}

#[test]
fn files_say_what_they_are() {
    let silent: Vec<_> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(rust_files)
        // `x/tests.rs` is said by its name: the tests of `x`.
        .filter(|file| !file.path.ends_with("tests.rs") && !file.text.starts_with("//! "))
        .map(|file| file.path)
        .collect();
    assert!(silent.is_empty(), "these don't open with `//!`: {silent:?}");
}

struct File {
    path: PathBuf,
    text: String,
    /// `["proto", "rtmp", "chunk"]` for `src/proto/rtmp/chunk.rs`.
    module: Vec<String>,
    syntax: syn::File,
}

impl File {
    fn read(path: PathBuf, root: &Path) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let inside = path.strip_prefix(root).unwrap().with_extension("");
        let mut module: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        module.pop_if(|last| *last == "mod");
        Self::parse(path.clone(), text, &module)
    }

    fn parse(path: PathBuf, text: String, module: &[&str]) -> Self {
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, text, module: module.iter().map(ToString::to_string).collect(), syntax }
    }

    fn is_test(&self) -> bool {
        self.module.iter().any(|part| part == "tests")
    }

    fn lines_without_tests(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let lines_of = |span: Span| span.end().line + 1 - span.start().line;
        let tests = self.syntax.items.iter().filter_map(|item| match item {
            Item::Mod(module) if for_tests(&module.attrs) => Some(lines_of(module.span())),
            _ => None,
        });
        self.text.lines().count() - tests.sum::<usize>()
    }
}

/// Every path the file names from outside itself, with its line; ours start with `crate`.
fn imports(file: &File) -> Vec<(Vec<String>, usize)> {
    let mut imports = Imports { module: file.module.clone(), found: Vec::new() };
    if !file.is_test() {
        imports.visit_file(&file.syntax);
    }
    imports.found
}

struct Imports {
    module: Vec<String>,
    found: Vec<(Vec<String>, usize)>,
}

impl Imports {
    /// Turns `self` and `super` into a path from `crate`.
    fn add(&mut self, mut path: Vec<String>, span: Span) {
        if matches!(path.first().map(String::as_str), Some("self" | "super")) {
            let supers = path.iter().take_while(|part| *part == "super").count();
            let kept = self.module.len().saturating_sub(supers);
            path.retain(|part| part != "self" && part != "super");
            path.splice(0..0, self.module.iter().take(kept).cloned());
            path.insert(0, "crate".into());
        }
        self.found.push((path, span.start().line));
    }

    fn add_tree(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |name: String| prefix.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(path.ident.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.add_tree(item, prefix)),
            UseTree::Name(name) => self.add(with(name.ident.to_string()), name.span()),
            UseTree::Rename(name) => self.add(with(name.ident.to_string()), name.span()),
            UseTree::Glob(glob) => self.add(prefix.to_vec(), glob.span()),
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), path.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if for_tests(&module.attrs) {
            return;
        }
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }
}

/// May `from` use `path`?
fn judge(from: &str, path: &[String]) -> Result<(), String> {
    let path = path.join("::");
    if WIRING.contains(&from) {
        return Ok(());
    }
    let sans_io = SANS_IO.contains(&from);
    let Some(ours) = path.strip_prefix("crate::") else {
        return match IO_CRATES.iter().find(|banned| sans_io && within(&path, banned)) {
            Some(banned) => Err(format!("`{from}` does no I/O and reads no clock, so it has no use for `{banned}`")),
            None => Ok(()),
        };
    };
    let allowed = match IMPORTS.iter().find(|(module, _)| *module == from) {
        Some((_, allowed)) => *allowed,
        None if LEAVES.contains(&from) => &["media"],
        None => return Err(format!("`{from}` is not in the import table")),
    };
    let leaves = if sans_io { &[] } else { LEAVES };
    if [&[from], allowed, leaves].concat().iter().any(|allowed| within(ours, allowed)) {
        return Ok(());
    }
    Err(format!("`{from}` may use only {allowed:?} and {leaves:?}"))
}

fn within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn top_module(module: &[String]) -> &str {
    module.first().map_or("lib", String::as_str)
}

fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn rust_files(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "node_modules" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(File::read(path, &root));
            }
        }
    }
    files
}
