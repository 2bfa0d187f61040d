//! The Rust names of the contract's messages and fields, as prost generates them.

use proc_macro2::{Ident, Span, TokenStream};
use prost_types::{DescriptorProto, FieldDescriptorProto};
use quote::quote;

/// Returns whether a message has a field of this name.
pub fn has(message: &DescriptorProto, field: &str) -> bool {
    message.field.iter().any(|f| f.name() == field)
}

/// Returns whether a field belongs to a oneof.
pub fn in_oneof(field: &FieldDescriptorProto) -> bool {
    field.oneof_index.is_some() && !field.proto3_optional()
}

/// Returns a field, a module or a method as an identifier.
pub fn member(name: &str) -> Ident {
    match name {
        "type" | "ref" | "match" | "move" | "use" => Ident::new_raw(name, Span::call_site()),
        _ => Ident::new(name, Span::call_site()),
    }
}

/// Converts `.hansa.type.v1.Actor` into `crate::hansa::r#type::v1::Actor`.
pub fn path(name: &str) -> TokenStream {
    if name == ".google.protobuf.Empty" {
        return quote!(());
    }
    let parts = name.trim_start_matches('.').split('.').map(member);
    quote!(crate #(:: #parts)*)
}

/// Converts `CityService` into `city_service`.
pub fn snake(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Converts `entered_into_force` into `EnteredIntoForce`.
pub fn camel(name: &str) -> Ident {
    let name: String = name
        .split('_')
        .map(|part| part.chars().take(1).flat_map(char::to_uppercase).chain(part.chars().skip(1)).collect::<String>())
        .collect();
    member(&name)
}

/// Returns the path of the enum that prost generates for a oneof.
pub fn oneof_path(message: &str, oneof: &str) -> TokenStream {
    let (package, name) = message.rsplit_once('.').expect("a full name has a package");
    let (package, module, oneof) = (path(package), member(&snake(name)), camel(oneof));
    quote!(#package::#module::#oneof)
}
