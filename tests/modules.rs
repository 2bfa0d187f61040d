//! Checks the module structure: no crate has a cycle of files, and the folders of the journal depend only downward.
//!
//! A file depends on another file if it names an item of that file, in a `use` or by path. A re-exported item counts
//! for the file that declares it, so the children of a facade may use the facade. Test code does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The path of a module within its crate; empty for the root.
type Module = Vec<String>;
/// The dependencies of the files of a crate, each with the path that shows it.
type Edges = BTreeMap<Module, BTreeMap<Module, String>>;

/// The top-level modules of `hansa-journal`, lowest layer first. A module may use modules of its own layer and of
/// lower ones.
const JOURNAL_LAYERS: &[&[&str]] = &[
    &["clock", "crypto", "limits", "metrics", "panics", "trace"],
    &["store"],
    &["record"],
    &["privacy"],
    &["core"],
    &["write"],
    &["journal"],
    &["inbox", "outbox", "read", "workers"],
];

/// The source files of one crate.
struct Crate {
    name: String,
    files: BTreeMap<Module, String>,
    reexports: BTreeMap<Module, BTreeMap<String, Module>>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tests are in the repository")
}

/// Reads all crates of the product.
fn crates() -> Vec<Crate> {
    let mut folders = Vec::new();
    for top in ["proto", "services"] {
        find_crates(&root().join(top), &mut folders);
    }
    folders.sort();
    folders.iter().map(|folder| Crate::read(folder)).collect()
}

fn find_crates(folder: &Path, found: &mut Vec<PathBuf>) {
    if folder.join("Cargo.toml").is_file() && folder.join("src").is_dir() {
        found.push(folder.to_owned());
    }
    for entry in fs::read_dir(folder).expect("a folder can be read").flatten() {
        let is_source = entry.file_name() != "src" && entry.file_name() != "target";
        if is_source && entry.path().is_dir() {
            find_crates(&entry.path(), found);
        }
    }
}

fn is_test_file(name: &str) -> bool {
    name.starts_with("tests") || name == "properties.rs" || name == "testing.rs"
}

impl Crate {
    fn read(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_modules(&folder.join("src"), &mut Vec::new(), &mut files);
        let name = folder.strip_prefix(root()).expect("a crate is in the repository").display().to_string();
        let mut this = Self { name, files, reexports: BTreeMap::new() };
        this.reexports = this.files.keys().map(|module| (module.clone(), this.reexports_of(module))).collect();
        this
    }

    fn reexports_of(&self, module: &Module) -> BTreeMap<String, Module> {
        let uses = uses(&self.files[module]).into_iter().filter(|(is_public, _)| *is_public);
        let named = uses.flat_map(|(_, tree)| expand(&tree, &[]));
        named.filter_map(|path| Some((path.last()?.clone(), self.absolute(&path, module)?))).collect()
    }

    /// Returns a path from the root of the crate; `None` if it leads out of the crate.
    fn absolute(&self, path: &[String], from: &Module) -> Option<Module> {
        let rest = |start: &[String], skip: usize| Some([start, &path[skip..]].concat());
        match path.first()?.as_str() {
            "crate" => rest(&[], 1),
            "self" => rest(from, 1),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                rest(&from[..from.len().checked_sub(ups)?], ups)
            }
            child => {
                let module = [from.as_slice(), &[child.to_owned()]].concat();
                self.files.contains_key(&module).then(|| rest(from, 0))?
            }
        }
    }

    /// Returns the file that declares what a path names.
    fn declaring_file(&self, mut path: Module) -> Module {
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|n| self.files.contains_key(&path[..*n])).unwrap_or(0);
            let (file, rest) = (path[..length].to_vec(), &path[length..]);
            let target = rest.first().and_then(|name| self.reexports.get(&file)?.get(name));
            match target {
                Some(target) => path = [target.as_slice(), &rest[1..]].concat(),
                None => return file,
            }
        }
        panic!("{}: re-exports form a cycle at {}", self.name, path.join("::"))
    }

    fn edges(&self) -> Edges {
        self.files.iter().map(|(module, text)| (module.clone(), self.edges_of(module, text))).collect()
    }

    fn edges_of(&self, module: &Module, text: &str) -> BTreeMap<Module, String> {
        let private = uses(text).into_iter().filter(|(is_public, _)| !is_public);
        let mut paths: Vec<Vec<String>> = private.flat_map(|(_, tree)| expand(&tree, &[])).collect();
        paths.extend(inline_paths(text));
        let mut edges = BTreeMap::new();
        for path in paths {
            let Some(target) = self.absolute(&path, module).map(|target| self.declaring_file(target)) else { continue };
            if target != *module {
                edges.insert(target, path.join("::"));
            }
        }
        edges
    }
}

fn read_modules(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).expect("a folder can be read").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_test_file(&name) {
            continue;
        }
        if entry.path().is_dir() {
            module.push(name);
            read_modules(&entry.path(), module, files);
            module.pop();
            continue;
        }
        let Some(stem) = name.strip_suffix(".rs") else { continue };
        // A binary next to a library is a crate of its own.
        if stem == "main" && folder.join("lib.rs").is_file() {
            continue;
        }
        let own = if matches!(stem, "lib" | "main" | "mod") { vec![] } else { vec![stem.to_owned()] };
        let text = fs::read_to_string(entry.path()).expect("a source file is text");
        files.insert([module.as_slice(), &own].concat(), without_tests(&text));
    }
}

/// Removes comments and the tests at the end of a file.
fn without_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns whether the `use` after some text is a re-export. Returns `None` if the word is not a `use` statement.
fn is_use(before: &str) -> Option<bool> {
    let line = before.rsplit(['\n', '}', '{']).next().unwrap_or_default().trim();
    let is_public = line.starts_with("pub");
    (line.is_empty() || is_public).then_some(is_public)
}

/// Returns the trees of all `use` statements, each with whether it re-exports.
fn uses(text: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for statement in text.split(';') {
        let Some((before, tree)) = statement.rsplit_once("use ") else { continue };
        if let Some(is_public) = is_use(before) {
            found.push((is_public, tree.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    found
}

/// Expands the tree of a `use` into its paths.
fn expand(tree: &str, before: &[String]) -> Vec<Vec<String>> {
    let tree = tree.split(" as ").next().filter(|_| !tree.contains('{')).unwrap_or(tree).trim();
    let Some((head, group)) = tree.split_once('{') else {
        let parts = tree.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty());
        let path: Vec<String> = before.iter().cloned().chain(parts).collect();
        return if tree.is_empty() { Vec::new() } else { vec![path] };
    };
    let head = head.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty());
    let prefix: Vec<String> = before.iter().cloned().chain(head).collect();
    let (mut depth, mut part, mut paths) = (0_usize, String::new(), Vec::new());
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            ',' if depth == 0 => paths.extend(expand(&std::mem::take(&mut part), &prefix)),
            _ => {
                depth = depth + usize::from(letter == '{') - usize::from(letter == '}');
                part.push(letter);
            }
        }
    }
    paths.extend(expand(&part, &prefix));
    paths
}

/// Returns the paths of at least two parts outside `use` statements.
fn inline_paths(text: &str) -> Vec<Vec<String>> {
    let statements = text.split(';').map(|statement| match statement.rsplit_once("use ") {
        Some((before, _)) if is_use(before).is_some() => before,
        _ => statement,
    });
    let text = statements.collect::<Vec<_>>().join(";");
    let is_path = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | ':');
    let words = text.split(|letter: char| !is_path(letter)).filter(|word| word.contains("::"));
    let paths = words.map(|word| word.split("::").map(str::to_owned).filter(|part| !part.is_empty()).collect());
    paths.filter(|path: &Vec<String>| path.len() > 1).collect()
}

/// Returns all direct and indirect dependencies of a module.
fn reachable<'a>(edges: &'a Edges, from: &'a Module) -> BTreeSet<&'a Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for next in edges.get(module).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "the root".to_owned() } else { module.join("/") }
}

/// Returns the edges that are part of a cycle.
fn cyclic(edges: &Edges) -> Vec<String> {
    let mut found = Vec::new();
    for (from, targets) in edges {
        for (to, path) in targets.iter().filter(|(to, _)| reachable(edges, to).contains(from)) {
            found.push(format!("{} -> {} by `{path}`", shown(from), shown(to)));
        }
    }
    found
}

#[test]
fn no_crate_has_a_cycle_of_files() {
    let crates = crates();
    assert!(crates.len() > 10, "found only {} crates", crates.len());
    let findings: Vec<String> = crates
        .iter()
        .flat_map(|one| cyclic(&one.edges()).into_iter().map(|cycle| format!("{}: {cycle}", one.name)))
        .collect();
    assert!(
        findings.is_empty(),
        "files depend on each other: move the shared items into a lower file:\n{}",
        findings.join("\n")
    );
}

#[test]
fn the_folders_of_the_journal_keep_their_order() {
    let journal = crates().into_iter().find(|one| one.name == "services/journal").expect("the journal is a crate");
    let layer = |module: &Module| {
        let top = module.first()?.as_str();
        let found = JOURNAL_LAYERS.iter().position(|layer| layer.contains(&top));
        Some(found.unwrap_or_else(|| panic!("{top} has no layer: add it to JOURNAL_LAYERS")))
    };
    let (mut findings, mut count) = (Vec::new(), 0);
    for (from, targets) in &journal.edges() {
        let Some(own) = layer(from) else { continue };
        for (to, path) in targets {
            count += 1;
            // The root only re-exports, so nothing may depend on it.
            if layer(to).is_none_or(|other| other > own) {
                findings.push(format!("{} -> {} by `{path}`", shown(from), shown(to)));
            }
        }
    }
    assert!(count > 50, "found only {count} dependencies");
    assert!(findings.is_empty(), "these dependencies lead to a higher layer:\n{}", findings.join("\n"));
}

#[test]
fn a_cycle_is_found_and_a_facade_is_none() {
    let files = [
        ("", "mod a;\nmod b;\nmod c;\npub use a::A;\npub use b::B;\n"),
        ("a", "use crate::{\n    B,\n    c::{C, D as E},\n};\n"),
        ("b", "fn f() { super::c::g(); }\n"),
        ("c", "pub struct C;\n"),
    ];
    let module = |name: &str| if name.is_empty() { vec![] } else { vec![name.to_owned()] };
    let crate_of = |files: &[(&str, &str)]| {
        let files: BTreeMap<_, _> = files.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect();
        let mut this = Crate { name: "example".into(), files, reexports: BTreeMap::new() };
        this.reexports = this.files.keys().map(|module| (module.clone(), this.reexports_of(module))).collect();
        this
    };
    assert_eq!(cyclic(&crate_of(&files).edges()), Vec::<String>::new());
    let mut with_cycle = files;
    with_cycle[3].1 = "use crate::A;\n";
    let cycle = cyclic(&crate_of(&with_cycle).edges());
    let links = ["a -> b by `crate::B`", "a -> c by `crate::c::D`", "b -> c by `super::c::g`", "c -> a by `crate::A`"];
    assert_eq!(cycle, links);
}
