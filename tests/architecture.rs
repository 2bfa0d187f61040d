//! Architecture rules, checked against `cargo metadata`, the lock file and the source files.
//!
//! A failing test names the file and line that break a rule, and says what to do instead.

use serde::Deserialize;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

/// Maximum number of lines in a source file.
const MOST_LINES: usize = 500;

/// The packages of the workspace, without their dependencies.
static PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let answer = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(answer.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&answer.stderr));
    let metadata: Metadata = serde_json::from_slice(&answer.stdout).expect("cargo metadata is JSON");
    assert!(metadata.packages.len() > 5, "cargo metadata names too few packages");
    metadata.packages
});

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    features: Vec<String>,
    path: Option<PathBuf>,
}

impl Package {
    /// Returns the package's folder relative to the root, for example `services/register/domain`.
    fn folder(&self) -> String {
        let folder = self.manifest_path.parent().expect("a manifest lies in a folder");
        relative(&folder.canonicalize().expect("the folder exists"))
    }

    /// Returns whether the package is the domain crate of a service.
    fn is_domain(&self) -> bool {
        self.folder().starts_with("services/") && self.folder().ends_with("/domain")
    }

    /// Returns whether the package is a service: it has a domain crate, or it is the gateway.
    fn is_service(&self) -> bool {
        let folder = self.folder();
        folder == "services/gateway"
            || (folder.starts_with("services/") && root().join(&folder).join("domain/Cargo.toml").exists())
    }

    /// Returns the Rust files of the package, with paths relative to the root.
    fn sources(&self) -> Vec<Source> {
        sources(&format!("{}/src", self.folder()))
    }
}

/// A Rust file: its path relative to the root, and its lines without comments.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    /// Returns whether the file belongs to a module of its crate. `api` is `src/api.rs` and all files in `src/api/`.
    fn stands_in(&self, room: &str) -> bool {
        let inside = self.path.split_once("/src/").map_or("", |(_, inside)| inside);
        inside == format!("{room}.rs") || inside.starts_with(&format!("{room}/"))
    }

    /// Returns a finding for each line that contains one of the words.
    fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let found = |(index, line): (usize, &String)| {
            let word = words.iter().find(|word| line.contains(**word))?;
            Some(format!("{}:{}: `{word}` in: {}", self.path, index + 1, line.trim()))
        };
        self.lines.iter().enumerate().filter_map(found).collect()
    }

    /// Returns the modules of `std` that the file names, by path or in a braced `use`.
    fn std_modules(&self) -> BTreeSet<String> {
        let text = self.lines.join("\n");
        let mut modules = BTreeSet::new();
        for (at, found) in text.match_indices("std::") {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &text[at + found.len()..];
            match rest.strip_prefix('{') {
                Some(group) => modules.extend(top_level_names(group)),
                None => modules.extend(leading_name(rest)),
            }
        }
        modules
    }
}

/// Returns the identifier at the beginning of a text.
fn leading_name(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Returns the first name of each part of a braced `use`. The text begins after the opening brace.
fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut part, mut names) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            ',' if depth == 0 => names.extend(leading_name(&std::mem::take(&mut part))),
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        part.push(if c == ',' { ' ' } else { c });
    }
    names.extend(leading_name(&part));
    names
}

/// Returns the root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tests lie in the repository")
}

/// Returns a path relative to the root.
fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// Collects all files and folders below a folder, except hidden ones, build output and fetched packages.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || matches!(name.as_str(), "target" | "node_modules" | "__pycache__") {
            continue;
        }
        found.push(path.clone());
        if path.is_dir() {
            walk(&path, found);
        }
    }
}

/// Returns the Rust files below a folder of the repository, sorted by path.
fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is text");
            Source { path: relative(&path), lines: text.lines().map(without_comment).collect() }
        })
        .collect()
}

/// Returns a line up to its comment. A `//` inside a word, as in a URL, does not begin a comment.
fn without_comment(line: &str) -> String {
    let begins =
        line.match_indices("//").find(|(at, _)| line[..*at].chars().next_back().is_none_or(char::is_whitespace));
    begins.map_or(line, |(at, _)| &line[..at]).to_owned()
}

/// Returns the Rust files of all packages except the tests and the bench.
fn product_sources() -> Vec<Source> {
    PACKAGES.iter().filter(|p| !p.folder().starts_with("tests")).flat_map(Package::sources).collect()
}

/// Fails with the list of all findings, if there are any.
fn none(findings: &[String], instead: &str) {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "  {finding}");
    }
    assert!(findings.is_empty(), "{} against the architecture:\n{text}{instead}", findings.len());
}

/// Returns the packages that must be pure: the domain crates, the kernel and the expressions.
fn pure_packages() -> Vec<&'static Package> {
    let pure: Vec<_> = PACKAGES
        .iter()
        .filter(|p| p.is_domain() || ["hansa-kernel", "hansa-expressions"].contains(&p.name.as_str()))
        .collect();
    assert!(pure.len() > 1, "no domain crate was found: has a folder moved?");
    pure
}

#[test]
fn rules_depend_on_no_machinery() {
    const MACHINERY: &[&str] = &[
        "tokio",
        "tonic",
        "sea-orm",
        "async-nats",
        "sqlx",
        "rusqlite",
        "axum",
        "hyper",
        "reqwest",
        "tower",
        "figment",
    ];
    let mut findings = Vec::new();
    for package in pure_packages() {
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let is = |machinery: &&str| name == *machinery || name.starts_with(&format!("{machinery}-"));
            let ours = dependency.path.is_some();
            let pure =
                ["hansa-proto", "hansa-kernel", "hansa-expressions"].contains(&name) || name.ends_with("-domain");
            if MACHINERY.iter().any(is) || (ours && !pure) {
                findings.push(format!("{} depends on {name}", package.name));
            }
            if name == "hansa-proto" && dependency.features.iter().any(|f| f == "grpc") {
                findings.push(format!("{} asks hansa-proto for `grpc`", package.name));
            }
        }
    }
    none(
        &findings,
        "The kernel and domain crates are pure: the kernel, expressions, the contract's messages and other domain crates only.",
    );
}

#[test]
fn rules_have_no_clock_and_touch_no_world() {
    let mut findings = Vec::new();
    for package in pure_packages() {
        for source in package.sources() {
            findings.extend(source.lines_with(&["SystemTime", "Instant::now", "Utc::now", "Local::now"]));
            if package.is_domain() {
                findings.extend(source.lines_with(&["now_v7", "new_v4", "getrandom", "rand::"]));
            }
            let modules = source.std_modules();
            for module in ["fs", "net", "env", "process", "thread"] {
                if modules.contains(module) {
                    findings.push(format!("{}: names std::{module}", source.path));
                }
            }
        }
    }
    none(&findings, "Clock, randomness and new ids come into a rule as arguments; files and sockets are for others.");
}

#[test]
fn services_never_depend_on_services() {
    let services: BTreeSet<&str> = PACKAGES.iter().filter(|p| p.is_service()).map(|p| p.name.as_str()).collect();
    assert!(!services.is_empty(), "no service was found: has a folder moved?");
    let mut findings = Vec::new();
    for package in PACKAGES.iter().filter(|p| !matches!(p.name.as_str(), "hansa" | "hansa-tests")) {
        for dependency in package.dependencies.iter().filter(|d| services.contains(d.name.as_str())) {
            findings.push(format!("{} depends on {}", package.name, dependency.name));
        }
    }
    none(
        &findings,
        "A service learns from another's changes, through that one's domain crate. Only the binary knows them all.",
    );
}

#[test]
fn only_the_journal_and_views_write() {
    const STATEMENTS: &[&str] = &[
        ".exec(",
        ".exec_with_returning(",
        ".exec_without_returning(",
        ".execute_unprepared(",
        "::insert(",
        "::insert_many(",
        "::update_many(",
        "::delete_many(",
        "::delete_by_id(",
        "execute_raw(",
    ];
    let mut findings = Vec::new();
    for package in PACKAGES.iter().filter(|p| p.is_service()) {
        for source in package.sources() {
            if source.stands_in("views") || source.stands_in("migrations") {
                continue;
            }
            // `insert` on a map or a set is not a statement. A file that does not name sea-orm is checked for less.
            if !source.lines_with(&["sea_orm"]).is_empty() {
                findings.extend(source.lines_with(STATEMENTS));
                findings.extend(source.lines_with(&[".insert(db", ".update(db", ".save(db", ".delete(db"]));
            } else if source.stands_in("api") || source.stands_in("subscriptions") {
                findings.extend(source.lines_with(&[".exec(", "::insert_many("]));
            }
        }
    }
    none(&findings, "Answer with changes: the journal writes them, and a view says which rows they make.");
}

#[test]
fn the_api_knows_no_database() {
    const SQL: &[&str] =
        &["sea_orm", "sea_query", "sqlx", "\"SELECT ", "\"INSERT ", "\"UPDATE ", "\"DELETE ", "SELECT * ", " WHERE "];
    let findings: Vec<String> = PACKAGES
        .iter()
        .filter(|p| p.is_service())
        .flat_map(Package::sources)
        .filter(|source| source.stands_in("api"))
        .flat_map(|source| source.lines_with(SQL))
        .collect();
    none(&findings, "A method parses, calls a rule or a view's query, and answers. Queries stand in views/.");
}

#[test]
fn nothing_is_called_common() {
    const NAMES: &[&str] = &["common", "commons", "util", "utils", "helper", "helpers", "misc"];
    let mut paths = Vec::new();
    for folder in ["proto", "services", "tests"] {
        walk(&root().join(folder), &mut paths);
    }
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut findings: Vec<String> =
        paths.iter().filter(|p| NAMES.contains(&stem(p).as_str())).map(|p| relative(p)).collect();
    let last_word = |name: &str| name.rsplit('-').next().unwrap_or_default().to_owned();
    let packages = PACKAGES.iter().filter(|p| NAMES.contains(&last_word(&p.name).as_str()));
    findings.extend(packages.map(|p| format!("package {}", p.name)));
    none(&findings, "Name it for the one thing that it can do.");
}

#[test]
fn files_are_short() {
    let mut files = sources("services");
    files.extend(sources("proto/src"));
    assert!(files.len() > 5, "too few files were found: has a folder moved?");
    let too_long = files.iter().filter(|f| f.lines.len() > MOST_LINES);
    let findings: Vec<String> = too_long.map(|f| format!("{}: {} lines", f.path, f.lines.len())).collect();
    none(&findings, &format!("At most {MOST_LINES} lines: split the file by what it is about."));
}

#[test]
fn refusals_quote_rules_by_id() {
    const CALLS: &[&str] = &["Refusal::rule(", "Refusal::out_of_order(", "Refusal::because(", ".under("];
    let mut findings = Vec::new();
    for source in product_sources() {
        let text = source.lines.join("\n");
        for call in CALLS {
            for (at, _) in text.match_indices(call) {
                let arguments = &text[at + call.len()..];
                let arguments = if *call == "Refusal::because(" {
                    arguments.split_once(',').map_or("", |(_, r)| r)
                } else {
                    arguments
                };
                // This test can judge only literals, not constants or parameters.
                let Some(rest) = arguments.trim_start().strip_prefix('"') else { continue };
                let id = rest.split('"').next().unwrap_or_default();
                if !is_rule_id(id) {
                    let line = text[..at].matches('\n').count() + 1;
                    findings.push(format!("{}:{line}: {call}\"{id}\"", source.path));
                }
            }
        }
    }
    none(&findings, "A rule is quoted by its id, two capitals and a number: AG-11.");
}

/// Returns whether a text is a rule id: two capitals, a hyphen, and a number without a leading zero.
fn is_rule_id(id: &str) -> bool {
    let Some((service, number)) = id.split_once('-') else { return false };
    service.len() == 2
        && service.chars().all(|c| c.is_ascii_uppercase())
        && !number.is_empty()
        && !number.starts_with('0')
        && number.chars().all(|c| c.is_ascii_digit())
}

#[test]
fn policy_and_encryption_come_from_one_place() {
    let mut findings = Vec::new();
    for package in PACKAGES.iter().filter(|p| p.name != "hansa-chassis") {
        for dependency in package.dependencies.iter().filter(|d| d.name.starts_with("cedar-policy")) {
            findings.push(format!("{} depends on {}", package.name, dependency.name));
        }
    }
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file is committed");
    for refused in ["aws-lc-rs", "aws-lc-sys", "aws-lc-fips-sys", "openssl", "openssl-sys", "native-tls"] {
        if lock.lines().any(|line| line == format!("name = \"{refused}\"")) {
            findings.push(format!("Cargo.lock holds {refused}: `cargo tree -i {refused}` says for whom"));
        }
    }
    none(&findings, "The chassis alone asks Cedar; ring is the one provider of TLS.");
}

#[test]
fn the_checks_see_what_they_should() {
    let source = Source {
        path: "services/x/src/api/y.rs".into(),
        lines: "use std::{\n    collections::{BTreeMap, fs},\n    env,\n};\nlet a = \"http://x\"; // std::net\nstd::fmt::Write"
            .lines()
            .map(without_comment)
            .collect(),
    };
    assert_eq!(source.std_modules(), ["collections", "env", "fmt"].map(String::from).into());
    assert!(source.lines[4].contains("http://x") && !source.lines[4].contains("std::net"));
    assert!(source.stands_in("api") && !source.stands_in("views"));
    assert!(is_rule_id("AG-11") && !is_rule_id("AG11") && !is_rule_id("ag-1") && !is_rule_id("AG-"));
}
