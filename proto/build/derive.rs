//! Writes the trait implementations that every message of the contract gets (see `src/lib.rs`), so that none is forgotten.

use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto::Label};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

const TEXT: &str = ".hansa.type.v1.LocalizedText";

/// The Rust source of all implementations.
pub fn derive(set: &FileDescriptorSet) -> String {
    let messages: BTreeMap<String, &DescriptorProto> = set
        .file
        .iter()
        .filter(|file| file.package().starts_with("hansa."))
        .flat_map(|file| file.message_type.iter().map(move |m| (format!(".{}.{}", file.package(), m.name()), m)))
        .collect();
    let with_texts = with_texts(&messages);
    let mut out = String::new();
    for (name, message) in &messages {
        texts(&mut out, name, message, &with_texts);
        if has(message, "request_id") && has(message, "validate_only") {
            write_request(&mut out, name, message, &messages);
        }
        if has(message, "name") && has(message, "etag") && !name.ends_with("Request") {
            masked(&mut out, name, message);
        }
        if has(message, "page_size") && has(message, "page_token") {
            paged(&mut out, name);
        }
        if name.ends_with("Change") && message.oneof_decl.iter().any(|o| o.name() == "change") {
            change_set(&mut out, name, message, &with_texts);
            onto(&mut out, name, message, &messages);
        }
    }
    out
}

fn has(message: &DescriptorProto, field: &str) -> bool {
    message.field.iter().any(|f| f.name() == field)
}

/// The messages in which a text stands at any depth.
fn with_texts(messages: &BTreeMap<String, &DescriptorProto>) -> BTreeSet<String> {
    let mut found = BTreeSet::from([TEXT.to_owned()]);
    loop {
        let before = found.len();
        for (name, message) in messages {
            if message.field.iter().any(|f| found.contains(f.type_name())) {
                found.insert(name.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// `.hansa.type.v1.Actor` as a path in the crate.
fn path(name: &str) -> String {
    let parts: Vec<&str> = name.trim_start_matches('.').split('.').collect();
    let parts: Vec<String> = parts.iter().map(|p| ident(p)).collect();
    format!("crate::{}", parts.join("::"))
}

fn ident(name: &str) -> String {
    if matches!(name, "type" | "ref" | "match" | "move" | "use") { format!("r#{name}") } else { name.to_owned() }
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn camel(name: &str) -> String {
    name.split('_')
        .map(|part| part.chars().take(1).flat_map(char::to_uppercase).chain(part.chars().skip(1)).collect::<String>())
        .collect()
}

fn oneof_path(message: &str, oneof: &str) -> String {
    let (package, name) = message.rsplit_once('.').expect("a full name has a package");
    format!("{}::{}::{}", path(package), snake(name), camel(oneof))
}

fn in_oneof(field: &FieldDescriptorProto) -> bool {
    field.oneof_index.is_some() && !field.proto3_optional()
}

fn texts(out: &mut String, name: &str, message: &DescriptorProto, with_texts: &BTreeSet<String>) {
    let mut body = String::new();
    if name == TEXT {
        body.push_str("visit(self);");
    }
    for field in message.field.iter().filter(|f| with_texts.contains(f.type_name()) && !in_oneof(f)) {
        let verb = if field.label() == Label::Repeated { "for text in &mut" } else { "if let Some(text) = &mut" };
        let _ = writeln!(body, "{verb} self.{} {{ text.visit_texts(visit); }}", ident(field.name()));
    }
    for (index, oneof) in message.oneof_decl.iter().enumerate() {
        let arms: String = message
            .field
            .iter()
            .filter(|f| in_oneof(f) && f.oneof_index() as usize == index && with_texts.contains(f.type_name()))
            .map(|f| {
                format!(
                    "Some({}::{}(text)) => text.visit_texts(visit),",
                    oneof_path(name, oneof.name()),
                    camel(f.name())
                )
            })
            .collect();
        if !arms.is_empty() {
            let _ = write!(body, "match &mut self.{} {{ {arms} _ => {{}} }}", ident(oneof.name()));
        }
    }
    let visit = if body.is_empty() { "_visit" } else { "visit" };
    let _ = writeln!(
        out,
        "impl crate::Texts for {} {{ fn visit_texts(&mut self, {visit}: &mut dyn FnMut(&mut {})) {{ {body} }} }}",
        path(name),
        path(TEXT)
    );
}

fn write_request(out: &mut String, name: &str, message: &DescriptorProto, all: &BTreeMap<String, &DescriptorProto>) {
    // An update names its record in the resource that it brings.
    let resource = message.field.iter().find(|f| {
        f.label() != Label::Repeated && all.get(f.type_name()).is_some_and(|of| has(of, "name") && has(of, "etag"))
    });
    let within = |field: &str| {
        resource
            .map_or("\"\"".to_owned(), |r| format!("self.{}.as_ref().map_or(\"\", |r| &r.{field})", ident(r.name())))
    };
    let etag = match (has(message, "etag"), resource) {
        (true, None) => "&self.etag".to_owned(),
        (true, Some(_)) => format!("if self.etag.is_empty() {{ {} }} else {{ &self.etag }}", within("etag")),
        (false, _) => within("etag"),
    };
    let (field, target) = match resource {
        _ if has(message, "name") => ("name".to_owned(), "&self.name".to_owned()),
        Some(resource) => (format!("{}.name", resource.name()), within("name")),
        None => ("name".to_owned(), "\"\"".to_owned()),
    };
    let _ = writeln!(
        out,
        "impl crate::WriteRequest for {} {{ fn request_id(&self) -> &str {{ &self.request_id }} \
         fn validate_only(&self) -> bool {{ self.validate_only }} fn etag(&self) -> &str {{ {etag} }} \
         fn target(&self) -> (&'static str, &str) {{ (\"{field}\", {target}) }} \
         fn without_id(mut self) -> Self {{ self.request_id.clear(); self }} }}",
        path(name)
    );
}

/// How a resource is written field by field. Fields of a oneof are left out: a mask cannot name one of them alone.
fn masked(out: &mut String, name: &str, message: &DescriptorProto) {
    use prost_types::field_descriptor_proto::Type;
    let fields = || message.field.iter().filter(|f| !in_oneof(f));
    let copies: String =
        fields().map(|f| format!("\"{}\" => self.{1}.clone_from(&from.{1}),", f.name(), ident(f.name()))).collect();
    let enums: String = fields()
        .filter(|f| f.r#type() == Type::Enum && f.label() != Label::Repeated && !f.proto3_optional())
        .map(|f| {
            let of = path(f.type_name());
            format!("if {of}::try_from(self.{}).is_err() {{ return Some(\"{}\"); }}\n", ident(f.name()), f.name())
        })
        .collect();
    let _ = writeln!(
        out,
        "impl crate::Masked for {} {{ fn copy_field(&mut self, path: &str, from: &Self) -> bool {{ match path {{ {copies} _ => return false }} true }} \
         fn unknown_enum(&self) -> Option<&'static str> {{ {enums} None }} \
         fn named(mut self, name: String, etag: String) -> Self {{ self.name = name; self.etag = etag; self }} }}",
        path(name)
    );
}

fn paged(out: &mut String, name: &str) {
    let _ = writeln!(
        out,
        "impl crate::Paged for {} {{ fn page_size(&self) -> i32 {{ self.page_size }} fn page_token(&self) -> &str {{ &self.page_token }} }}",
        path(name)
    );
}

/// How changes write what they say onto the resource that they are of: each field that both have.
fn onto(out: &mut String, name: &str, message: &DescriptorProto, all: &BTreeMap<String, &DescriptorProto>) {
    let of = name.trim_end_matches("Change");
    let Some(resource) = all.get(of).filter(|of| has(of, "name") && has(of, "etag")) else { return };
    let same = |field: &FieldDescriptorProto| {
        let twin = |r: &FieldDescriptorProto| {
            (r.name(), r.r#type(), r.type_name(), r.label(), r.proto3_optional())
                == (field.name(), field.r#type(), field.type_name(), field.label(), field.proto3_optional())
        };
        !in_oneof(field) && resource.field.iter().any(|r| !in_oneof(r) && twin(r))
    };
    let arms: String = message
        .field
        .iter()
        .filter(|f| in_oneof(f))
        .map(|variant| {
            let change = all.get(variant.type_name());
            let fields = change.into_iter().flat_map(|change| change.field.iter()).filter(|field| same(field));
            let copies: String = fields.map(|f| format!("resource.{0}.clone_from(&m.{0});", ident(f.name()))).collect();
            let bound = if copies.is_empty() { "_" } else { "m" };
            format!("Self::{}({bound}) => {{ {copies} }}", camel(variant.name()))
        })
        .collect();
    let _ = writeln!(
        out,
        "impl crate::Onto<{0}> for {1} {{ fn write_onto(&self, resource: &mut {0}) {{ let _ = &resource; match self {{ {arms} }} }} }}",
        path(of),
        oneof_path(name, "change")
    );
}

fn change_set(out: &mut String, name: &str, message: &DescriptorProto, with_texts: &BTreeSet<String>) {
    let set = oneof_path(name, "change");
    let variants: Vec<(String, &str)> =
        message.field.iter().filter(|f| in_oneof(f)).map(|f| (camel(f.name()), f.type_name())).collect();
    let each = |arm: &dyn Fn(&str, &str) -> String| variants.iter().map(|(v, t)| arm(v, t)).collect::<String>();
    let names = each(&|v, t| format!("Self::{v}(_) => \"{}\",", t.trim_start_matches('.')));
    let payloads = each(&|v, _| format!("Self::{v}(m) => prost::Message::encode_to_vec(m),"));
    let decodes =
        each(&|v, t| format!("\"{}\" => Self::{v}(prost::Message::decode(payload)?),", t.trim_start_matches('.')));
    let types = each(&|_, t| format!("\"{}\",", t.trim_start_matches('.')));
    let texts = each(&|v, t| {
        if with_texts.contains(t) { format!("Self::{v}(m) => m.visit_texts(visit),") } else { String::new() }
    });
    let visit = if texts.is_empty() { "_visit" } else { "visit" };
    let _ = writeln!(
        out,
        "impl crate::ChangeSet for {set} {{ const TYPES: &'static [&'static str] = &[{types}]; \
         fn type_name(&self) -> &'static str {{ match self {{ {names} }} }} \
         fn payload(&self) -> Vec<u8> {{ match self {{ {payloads} }} }} \
         fn decode(type_name: &str, payload: &[u8]) -> Result<Option<Self>, prost::DecodeError> {{ Ok(Some(match type_name {{ {decodes} _ => return Ok(None) }})) }} }} \
         impl crate::Texts for {set} {{ #[allow(unreachable_patterns)] fn visit_texts(&mut self, {visit}: &mut dyn FnMut(&mut {})) {{ match self {{ {texts} _ => {{}} }} }} }}",
        path(TEXT)
    );
    for (variant, of) in &variants {
        let of = path(of);
        let _ = writeln!(out, "impl From<{of}> for {set} {{ fn from(m: {of}) -> Self {{ Self::{variant}(m) }} }}");
    }
}
