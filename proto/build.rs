//! Generates the Rust code of the contract from `hansa/**/*.proto`, without protoc.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

#[path = "build/derive.rs"]
mod derive;
#[path = "build/handlers.rs"]
mod handlers;
#[path = "build/names.rs"]
mod names;

/// Messages that the state of an agreement contains whole; they need serde.
const STORED: &[&str] =
    &["Activity", "AgreementOrigin", "Committee", "CommitteeMember", "Delegation", "Guidelines", "JointText"];

/// Shared messages that stored messages contain; they need serde too.
const SHARED: &[&str] = &[
    ".hansa.type.v1.Actor",
    ".hansa.type.v1.Attachment",
    ".hansa.type.v1.CouncilVote",
    ".hansa.type.v1.DateRange",
    ".hansa.type.v1.LocalizedText",
    ".google.type.Date",
    ".google.type.Money",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    collect(Path::new("hansa"), &mut files)?;
    files.sort();
    files.extend(["third_party/google/type/date.proto".into(), "third_party/google/type/money.proto".into()]);

    let mut compiler = protox::Compiler::new(["third_party", "."])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    // protox encodes the options (google.api.http) too; prost would lose them.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    fs::write(out.join("derived.rs"), formatted(derive::derive(&descriptors))?)?;
    fs::write(out.join("handlers.rs"), formatted(handlers::handlers(&descriptors))?)?;

    let serde = "#[derive(serde::Serialize, serde::Deserialize)]";
    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names().disable_comments([".google"]);
    // By name: a prefix would also match the oneofs, whose messages have no serde.
    for file in descriptors.file.iter().filter(|file| file.package().starts_with("hansa.")) {
        for of in &file.enum_type {
            config.enum_attribute(format!(".{}.{}", file.package(), of.name()), serde);
        }
    }
    for shared in SHARED {
        config.message_attribute(*shared, serde);
    }
    for time in ["create_time", "update_time"] {
        config.field_attribute(
            format!(".hansa.partnerships.v1.Activity.{time}"),
            "#[serde(with = \"crate::stored_time\")]",
        );
    }
    config.enum_attribute(".hansa", "#[allow(missing_docs)]");
    for stored in STORED {
        config.message_attribute(format!(".hansa.partnerships.v1.{stored}"), serde);
    }
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .include_file("contract.rs")
        .compile_fds_with_config(descriptors, config)?;

    println!("cargo:rerun-if-changed=hansa");
    println!("cargo:rerun-if-changed=third_party");
    println!("cargo:rerun-if-changed=build");
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// Formats generated code, so that a reader of a compiler error can read it.
fn formatted(tokens: proc_macro2::TokenStream) -> syn::Result<String> {
    Ok(prettyplease::unparse(&syn::parse2(tokens)?))
}
