//! Rules of the contract, checked against its descriptors (AIP, google.aip.dev).
//!
//! A failing test names each method or field that breaks a rule, and says what to do instead. `tests/rules.py` checks the
//! reasons of refusals, `make breaking` the compatibility with the committed baseline.

use prost_reflect::{
    DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::LazyLock,
};

/// The descriptors of the contract.
static CONTRACT: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(hansa_proto::DESCRIPTORS).expect("the contract's descriptors decode"));

/// Keywords of Java, Go, Python, TypeScript, C# and Ruby that a field could be named.
const KEYWORDS: &str = "abstract alias and any as assert async await base begin bool boolean break byte case catch chan char \
     checked class const continue debugger decimal def default defer delegate delete do double elif else elsif end ensure \
     enum event except explicit export extends extern fallthrough false final finally fixed float for foreach from func \
     function global go goto if implements implicit import in instanceof int interface internal is lambda let lock long map \
     module namespace native new next nil nonlocal none not null object operator or out override package params pass \
     private protected public raise range readonly redo ref rescue retry return sbyte sealed select self short sizeof \
     stackalloc static string struct super switch synchronized then this throw throws transient true try type typeof uint \
     ulong unchecked undef unless unsafe until using var virtual void volatile when while with yield";

fn ours(package: &str) -> bool {
    package.starts_with("hansa.")
}

/// Returns the methods of the contract's own services.
fn methods() -> Vec<MethodDescriptor> {
    let methods: Vec<_> =
        CONTRACT.services().filter(|s| ours(s.package_name())).flat_map(|s| s.methods().collect::<Vec<_>>()).collect();
    assert!(methods.len() > 90, "the contract has too few methods: {}", methods.len());
    methods
}

/// Returns the contract's own messages. Entries of maps are not among them.
fn messages() -> Vec<MessageDescriptor> {
    let messages: Vec<_> = CONTRACT.all_messages().filter(|m| ours(m.package_name()) && !m.is_map_entry()).collect();
    assert!(messages.len() > 250, "the contract has too few messages: {}", messages.len());
    messages
}

fn fields() -> Vec<FieldDescriptor> {
    messages().iter().flat_map(|m| m.fields().collect::<Vec<_>>()).collect()
}

/// Returns whether a field belongs to a resource, a request or a response: fields of changes and shared types describe
/// what happened and have no behavior of their own.
fn has_behavior(field: &FieldDescriptor) -> bool {
    let file = field.parent_file();
    !file.name().ends_with("/changes.proto")
        && !file.name().ends_with("/erasure.proto")
        && file.package_name() != "hansa.type.v1"
}

fn extension(name: &str) -> ExtensionDescriptor {
    CONTRACT.get_extension_by_name(name).unwrap_or_else(|| panic!("the contract imports no {name}"))
}

/// Returns the comment above an element.
fn comment(file: &prost_reflect::FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref().expect("the descriptors keep their comments");
    let place = info.location.iter().find(|location| location.path == path);
    place.map_or("", |location| location.leading_comments()).trim().to_owned()
}

/// Returns the HTTP routes of a method: verb and path.
fn routes(method: &MethodDescriptor) -> Vec<(String, String)> {
    let options = method.options();
    let http = extension("google.api.http");
    if !options.has_extension(&http) {
        return Vec::new();
    }
    let mut rules = vec![options.get_extension(&http).as_message().expect("a rule").clone()];
    let more: Vec<_> = rules[0].get_field_by_name("additional_bindings").map_or_else(Vec::new, |more| {
        more.as_list().expect("a list").iter().map(|rule| rule.as_message().expect("a rule").clone()).collect()
    });
    rules.extend(more);
    let verbs = ["get", "put", "post", "delete", "patch"];
    let route = |rule: &prost_reflect::DynamicMessage| {
        verbs.iter().find_map(|verb| match rule.get_field_by_name(verb)?.into_owned() {
            Value::String(path) if !path.is_empty() => Some(((*verb).to_owned(), path)),
            _ => None,
        })
    };
    rules.iter().map(|rule| route(rule).expect("a rule has a path")).collect()
}

/// Returns the segments of a path, with each variable replaced by its pattern.
fn segments(path: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (variable, after) = after.split_once('}').expect("a variable ends");
        let _ = write!(plain, "{before}{}", variable.split_once('=').map_or("*", |(_, pattern)| pattern));
        rest = after;
    }
    plain.push_str(rest);
    let (path, verb) = plain.split_once(':').map_or((plain.as_str(), None), |(path, verb)| (path, Some(verb)));
    let verb = format!(":{}", verb.unwrap_or_default());
    path.split('/').map(str::to_owned).chain([verb]).collect()
}

/// Returns whether one request could match both paths.
fn overlap(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a == b || a == "*" || b == "*")
}

fn none(findings: &[String], instead: &str) {
    assert!(findings.is_empty(), "{}\n{instead}", findings.join("\n"));
}

fn named<T>(found: impl IntoIterator<Item = T>, name: impl Fn(&T) -> String) -> Vec<String> {
    found.into_iter().map(|each| name(&each)).collect()
}

#[test]
fn every_method_and_field_is_explained() {
    let silent = methods().into_iter().filter(|m| comment(&m.parent_file(), m.path()).split_whitespace().count() < 3);
    let mut findings = named(silent, |m| m.full_name().to_owned());
    let silent = fields().into_iter().filter(|f| comment(&f.parent_file(), f.path()).is_empty());
    findings.extend(named(silent, |f| f.full_name().to_owned()));
    none(&findings, "The comments are the reference: meaning, unit, default, limit, refusals.");
}

#[test]
fn every_method_is_reachable_as_json() {
    let without = methods().into_iter().filter(|m| routes(m).is_empty());
    none(&named(without, |m| m.full_name().to_owned()), "Give it `option (google.api.http)`.");
}

#[test]
fn routes_are_unambiguous() {
    let mut known: Vec<(String, Vec<String>, String)> = Vec::new();
    let mut findings = Vec::new();
    for method in methods() {
        for (verb, path) in routes(&method) {
            let parts = segments(&path);
            for (other_verb, other, owner) in &known {
                if *other_verb == verb && overlap(other, &parts) {
                    findings.push(format!("{} and {owner}: {verb} {path}", method.full_name()));
                }
            }
            known.push((verb, parts, method.full_name().to_owned()));
        }
    }
    none(&findings, "Two routes that match one request need a different collection or verb.");
}

#[test]
fn every_write_can_be_repeated_and_tried() {
    let mut findings = Vec::new();
    for method in methods() {
        let reads = routes(&method).iter().all(|(verb, _)| verb == "get");
        for field in ["request_id", "validate_only"] {
            let has = method.input().get_field_by_name(field).is_some();
            // A simulation writes nothing, but its input is too large for a URL.
            if has == reads && method.name() != "SimulatePortfolio" {
                findings.push(format!("{}: {field}", method.full_name()));
            }
        }
    }
    none(&findings, "What writes has both `request_id` and `validate_only`, what reads neither (PL-4).");
}

#[test]
fn request_ids_are_uuids() {
    let info = extension("google.api.field_info");
    let wrong = fields().into_iter().filter(|f| f.name() == "request_id").filter(|f| {
        let options = f.options();
        let format = options.get_extension(&info);
        let format = format.as_message().and_then(|info| info.get_field_by_name("format")?.as_enum_number());
        format != Some(1)
    });
    none(&named(wrong, |f| f.full_name().to_owned()), "Give it `(google.api.field_info).format = UUID4`.");
}

#[test]
fn every_list_has_pages() {
    let mut findings = Vec::new();
    let lists = || methods().into_iter().filter(|m| m.name().starts_with("List"));
    assert!(lists().count() > 10, "the contract has too few lists");
    for method in lists() {
        for field in ["page_size", "page_token"] {
            match method.input().get_field_by_name(field) {
                None => findings.push(format!("{}: no {field}", method.full_name())),
                Some(field) if field.name() == "page_size" => {
                    let text = comment(&field.parent_file(), field.path());
                    if !text.contains("Defaults to") || !text.contains("capped at") {
                        findings.push(format!("{}: its comment has no default or no limit", field.full_name()));
                    }
                }
                Some(_) => {}
            }
        }
        if method.output().get_field_by_name("next_page_token").is_none() {
            findings.push(format!("{}: no next_page_token", method.full_name()));
        }
    }
    none(&findings, "A list has page_size (with default and limit), page_token and next_page_token (AIP-158).");
}

#[test]
fn dates_and_times_end_in_their_type() {
    let mut findings = Vec::new();
    for field in fields() {
        let Kind::Message(message) = field.kind() else { continue };
        let suffix = match message.full_name() {
            "google.type.Date" => "date",
            "google.protobuf.Timestamp" => "time",
            _ => continue,
        };
        let fits = field.name().ends_with(&format!("_{suffix}")) || field.name().ends_with(&format!("_{suffix}s"));
        if !fits {
            findings.push(format!("{}: _{suffix}", field.full_name()));
        }
    }
    none(&findings, "The name of a date ends in `_date`, that of an instant in `_time` (AIP-142).");
}

#[test]
fn numbers_are_signed() {
    let unsigned = fields()
        .into_iter()
        .filter(|f| matches!(f.kind(), Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64));
    none(&named(unsigned, |f| f.full_name().to_owned()), "Use int32 or int64 (AIP-141).");
}

#[test]
fn names_refer_to_resources() {
    let resource = extension("google.api.resource");
    let reference = extension("google.api.resource_reference");
    let mut findings = Vec::new();
    for field in fields().iter().filter(|f| has_behavior(f) && matches!(f.name(), "name" | "parent")) {
        let message = field.parent_message();
        let is_resource = message.options().has_extension(&resource);
        if !is_resource && !field.options().has_extension(&reference) {
            findings.push(field.full_name().to_owned());
        }
    }
    none(&findings, "Give it `(google.api.resource_reference)`, or the message `(google.api.resource)` (AIP-122).");
}

#[test]
fn resources_are_complete() {
    let resource = extension("google.api.resource");
    let mut findings = Vec::new();
    let mut count = 0;
    for message in messages().iter().filter(|m| m.options().has_extension(&resource)) {
        count += 1;
        let options = message.options();
        let options = options.get_extension(&resource);
        let options = options.as_message().expect("a resource");
        let patterns = options.get_field_by_name("pattern").map_or(0, |p| p.as_list().map_or(0, <[Value]>::len));
        if patterns == 0 {
            findings.push(format!("{}: no pattern", message.full_name()));
        }
        let stored = methods().iter().any(|m| m.output() == *message && m.name().starts_with("Get"));
        for field in ["name", "create_time", "update_time"] {
            // A change is written once, and a finding, a rubric or a feed has no life of its own.
            let has_times = !matches!(message.name(), "Change" | "Rubric" | "Feed" | "Finding");
            if stored && (field == "name" || has_times) && message.get_field_by_name(field).is_none() {
                findings.push(format!("{}: no {field}", message.full_name()));
            }
        }
    }
    assert!(count >= 13, "the contract has too few resources: {count}");
    none(&findings, "A resource has a pattern, `name`, `create_time` and `update_time` (AIP-123, 148).");
}

#[test]
fn every_field_has_a_behavior() {
    let behavior = extension("google.api.field_behavior");
    // The fields of a response, and the members of a oneof, are set as the message says.
    let response = |f: &FieldDescriptor| f.parent_message().name().ends_with("Response");
    let without = fields().into_iter().filter(|f| has_behavior(f) && !response(f)).filter(|f| {
        if f.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
            return false;
        }
        let options = f.options();
        let given = options.get_extension(&behavior);
        given.as_list().is_none_or(<[Value]>::is_empty)
    });
    none(&named(without, |f| f.full_name().to_owned()), "Give it `(google.api.field_behavior)` (AIP-203).");
}

#[test]
fn message_names_are_unique() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in messages().iter().filter(|m| m.parent_message().is_none()) {
        known.entry(message.name().to_owned()).or_default().insert(message.full_name().to_owned());
    }
    for one in CONTRACT.all_enums().filter(|e| ours(e.package_name()) && e.parent_message().is_none()) {
        known.entry(one.name().to_owned()).or_default().insert(one.full_name().to_owned());
    }
    let twice = known.into_iter().filter(|(_, places)| places.len() > 1);
    none(&named(twice, |(name, places)| format!("{name}: {places:?}")), "OpenAPI has one namespace for all messages.");
}

#[test]
fn messages_are_not_named_like_methods() {
    let methods: BTreeSet<String> = methods().iter().map(|m| m.name().to_owned()).collect();
    let wrong = messages().into_iter().filter(|m| m.parent_message().is_none() && methods.contains(m.name()));
    none(&named(wrong, |m| m.full_name().to_owned()), "Nest the message, or name it after what it contains.");
}

#[test]
fn no_field_is_a_keyword() {
    let keywords: BTreeSet<&str> = KEYWORDS.split_whitespace().collect();
    let wrong = fields().into_iter().filter(|f| keywords.contains(f.name()));
    none(&named(wrong, |f| f.full_name().to_owned()), "Generated clients would have to rename it.");
}

#[test]
fn any_lists_what_may_stand_in_it() {
    let any =
        fields().into_iter().filter(|f| matches!(f.kind(), Kind::Message(m) if m.full_name() == "google.protobuf.Any"));
    let listed = |text: &str| text.matches('`').count() >= 4;
    let silent = any.filter(|f| !listed(&comment(&f.parent_file(), f.path())));
    none(&named(silent, |f| f.full_name().to_owned()), "The comment lists the messages that the field can contain.");
}

#[test]
fn routes_are_compared_by_what_they_match() {
    let overlaps = |one: &str, other: &str| overlap(&segments(one), &segments(other));
    assert!(overlaps("/v1/{record=*/*}/changes", "/v1/{service=services/*}/changes"));
    assert!(!overlaps("/v1/{parent=feeds/*}/entries", "/v1/{parent=cities/*}/changes"));
    assert!(!overlaps("/v1/cities:merge", "/v1/{name=cities/*}:end"));
    assert!(!overlaps("/v1/cities", "/v1/cities:merge"));
    assert!(overlaps("/v1/cities:merge", "/v1/*:merge"));
}
