//! Generates the trait implementations that every message of the contract gets (see `src/lib.rs`), so that none is forgotten.

use crate::names::{camel, has, in_oneof, member, oneof_path, path};
use proc_macro2::TokenStream;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use quote::{ToTokens, quote};
use std::collections::{BTreeMap, BTreeSet};

const TEXT: &str = ".hansa.type.v1.LocalizedText";

/// The messages of the contract by full name.
type Messages<'a> = BTreeMap<String, &'a DescriptorProto>;

/// Generates the implementations of all messages.
pub fn derive(set: &FileDescriptorSet) -> TokenStream {
    let messages: Messages<'_> = set
        .file
        .iter()
        .filter(|file| file.package().starts_with("hansa."))
        .flat_map(|file| file.message_type.iter().map(move |m| (format!(".{}.{}", file.package(), m.name()), m)))
        .collect();
    let with_texts = with_texts(&messages);
    let mut out = TokenStream::new();
    for (name, message) in &messages {
        out.extend(texts(name, message, &with_texts));
        if has(message, "request_id") && has(message, "validate_only") {
            out.extend(write_request(name, message, &messages));
        }
        if has(message, "name") && has(message, "etag") && !name.ends_with("Request") {
            out.extend(masked(name, message));
        }
        if has(message, "create_time") && has(message, "update_time") {
            out.extend(timed(name));
        }
        if has(message, "page_size") && has(message, "page_token") {
            out.extend(paged(name));
        }
        if name.ends_with("Change") && message.oneof_decl.iter().any(|o| o.name() == "change") {
            out.extend(change_set(name, message, &with_texts));
            out.extend(apply_to(name, message, &messages));
        }
    }
    out
}

/// Returns the messages that contain a text at any depth.
fn with_texts(messages: &Messages<'_>) -> BTreeSet<String> {
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

fn texts(name: &str, message: &DescriptorProto, with_texts: &BTreeSet<String>) -> TokenStream {
    let own = (name == TEXT).then(|| quote!(visit(self);));
    let fields = message.field.iter().filter(|f| with_texts.contains(f.type_name()) && !in_oneof(f)).map(|f| {
        let field = member(f.name());
        match f.label() {
            Label::Repeated => quote!(for text in &mut self.#field { text.visit_texts(visit); }),
            _ => quote!(if let Some(text) = &mut self.#field { text.visit_texts(visit); }),
        }
    });
    let oneofs = message.oneof_decl.iter().enumerate().filter_map(|(index, oneof)| {
        let (field, set) = (member(oneof.name()), oneof_path(name, oneof.name()));
        let arms: Vec<_> = message
            .field
            .iter()
            .filter(|f| in_oneof(f) && f.oneof_index() as usize == index && with_texts.contains(f.type_name()))
            .map(|f| camel(f.name()))
            .collect();
        let is_empty = arms.is_empty();
        (!is_empty)
            .then(|| quote!(match &mut self.#field { #(Some(#set::#arms(text)) => text.visit_texts(visit),)* _ => {} }))
    });
    let body = quote!(#own #(#fields)* #(#oneofs)*);
    let (of, text) = (path(name), path(TEXT));
    quote! {
        impl crate::Texts for #of {
            #[allow(unused_variables)]
            fn visit_texts(&mut self, visit: &mut dyn FnMut(&mut #text)) { #body }
        }
    }
}

fn write_request(name: &str, message: &DescriptorProto, all: &Messages<'_>) -> TokenStream {
    // An Update request names its record in the resource.
    let resource = message.field.iter().find(|f| {
        f.label() != Label::Repeated && all.get(f.type_name()).is_some_and(|of| has(of, "name") && has(of, "etag"))
    });
    let within = |field: &str| {
        let field = member(field);
        resource.map_or(quote!(""), |r| {
            let resource = member(r.name());
            quote!(self.#resource.as_ref().map_or("", |r| &r.#field))
        })
    };
    let etag = match (has(message, "etag"), resource) {
        (true, None) => quote!(&self.etag),
        (true, Some(_)) => {
            let within = within("etag");
            quote!(if self.etag.is_empty() { #within } else { &self.etag })
        }
        (false, _) => within("etag"),
    };
    // A custom method on a collection names its record in its first field, such as `successor`.
    let first = message.field.first().filter(|_| has(message, "etag")).map(FieldDescriptorProto::name);
    let own = ["name", "parent"].into_iter().find(|field| has(message, field)).or(first);
    let (field, target) = match (own, resource) {
        (Some(own), _) => {
            let member = member(own);
            (own.to_owned(), quote!(&self.#member))
        }
        (None, Some(resource)) => (format!("{}.name", resource.name()), within("name")),
        (None, None) => ("name".to_owned(), quote!("")),
    };
    let of = path(name);
    quote! {
        impl crate::WriteRequest for #of {
            fn request_id(&self) -> &str { &self.request_id }
            fn validate_only(&self) -> bool { self.validate_only }
            fn etag(&self) -> &str { #etag }
            fn target(&self) -> (&'static str, &str) { (#field, #target) }
            fn without_id(mut self) -> Self { self.request_id.clear(); self }
        }
    }
}

/// Generates how a resource is written field by field. Fields of a oneof are left out: a mask cannot name one of them alone.
fn masked(name: &str, message: &DescriptorProto) -> TokenStream {
    let fields: Vec<_> = message.field.iter().filter(|f| !in_oneof(f)).collect();
    let (names, members): (Vec<_>, Vec<_>) = fields.iter().map(|f| (f.name(), member(f.name()))).unzip();
    let is_enum =
        |f: &&&FieldDescriptorProto| f.r#type() == Type::Enum && f.label() != Label::Repeated && !f.proto3_optional();
    let enums = fields.iter().filter(is_enum).map(|f| {
        let (of, name, field) = (path(f.type_name()), f.name(), member(f.name()));
        quote!(if #of::try_from(self.#field).is_err() { return Some(#name); })
    });
    let of = path(name);
    quote! {
        impl crate::Masked for #of {
            fn copy_field(&mut self, path: &str, from: &Self) -> bool {
                match path {
                    #(#names => self.#members.clone_from(&from.#members),)*
                    _ => return false,
                }
                true
            }
            fn unknown_enum(&self) -> Option<&'static str> { #(#enums)* None }
            fn named(mut self, name: String, etag: String) -> Self { self.name = name; self.etag = etag; self }
        }
    }
}

/// Generates how the times of a resource are set.
fn timed(name: &str) -> TokenStream {
    let of = path(name);
    quote! {
        impl crate::Timed for #of {
            fn with_times(self, create: prost_types::Timestamp, update: prost_types::Timestamp) -> Self {
                Self { create_time: Some(create), update_time: Some(update), ..self }
            }
        }
    }
}

/// Generates the page parameters of a list request. The query begins with the type, so that equal filters of two lists differ.
fn paged(name: &str) -> TokenStream {
    let of = path(name);
    let type_name = name.trim_start_matches('.');
    quote! {
        impl crate::Paged for #of {
            fn page_size(&self) -> i32 { self.page_size }
            fn page_token(&self) -> &str { &self.page_token }
            fn query(&self) -> Vec<u8> {
                let mut query = Vec::from(#type_name);
                let filters = Self { page_size: 0, page_token: String::new(), ..self.clone() };
                query.extend(prost::Message::encode_to_vec(&filters));
                query
            }
        }
    }
}

/// Generates how changes are merged into the resource of their record: each field that both have.
fn apply_to(name: &str, message: &DescriptorProto, all: &Messages<'_>) -> TokenStream {
    let of = name.trim_end_matches("Change");
    let Some(resource) = all.get(of).filter(|of| has(of, "name") && has(of, "etag")) else { return TokenStream::new() };
    let same = |field: &&FieldDescriptorProto| {
        let twin = |r: &FieldDescriptorProto| {
            (r.name(), r.r#type(), r.type_name(), r.label(), r.proto3_optional())
                == (field.name(), field.r#type(), field.type_name(), field.label(), field.proto3_optional())
        };
        !in_oneof(field) && resource.field.iter().any(|r| !in_oneof(r) && twin(r))
    };
    let arms = message.field.iter().filter(|f| in_oneof(f)).map(|variant| {
        let change = all.get(variant.type_name());
        let fields: Vec<_> = change
            .into_iter()
            .flat_map(|change| change.field.iter())
            .filter(same)
            .map(|field| member(field.name()))
            .collect();
        let bound = if fields.is_empty() { quote!(_) } else { quote!(m) };
        let variant = camel(variant.name());
        quote!(Self::#variant(#bound) => { #(resource.#fields.clone_from(&m.#fields);)* })
    });
    let (of, set) = (path(of), oneof_path(name, "change"));
    quote! {
        impl crate::ApplyTo<#of> for #set {
            fn apply_to(&self, resource: &mut #of) { let _ = &resource; match self { #(#arms)* } }
        }
    }
}

fn change_set(name: &str, message: &DescriptorProto, with_texts: &BTreeSet<String>) -> TokenStream {
    let (set, text) = (oneof_path(name, "change"), path(TEXT));
    let fields: Vec<_> = message.field.iter().filter(|f| in_oneof(f)).collect();
    let variants: Vec<_> = fields.iter().map(|f| camel(f.name())).collect();
    let types: Vec<_> = fields.iter().map(|f| f.type_name().trim_start_matches('.')).collect();
    let paths: Vec<TokenStream> = fields.iter().map(|f| path(f.type_name())).collect();
    let texts = fields
        .iter()
        .zip(&variants)
        .filter(|(f, _)| with_texts.contains(f.type_name()))
        .map(|(_, variant)| variant.to_token_stream());
    quote! {
        impl crate::ChangeSet for #set {
            const TYPES: &'static [&'static str] = &[#(#types,)*];
            fn type_name(&self) -> &'static str { match self { #(Self::#variants(_) => #types,)* } }
            fn payload(&self) -> Vec<u8> { match self { #(Self::#variants(m) => prost::Message::encode_to_vec(m),)* } }
            fn decode(type_name: &str, payload: &[u8]) -> Result<Option<Self>, prost::DecodeError> {
                Ok(Some(match type_name {
                    #(#types => Self::#variants(prost::Message::decode(payload)?),)*
                    _ => return Ok(None),
                }))
            }
        }
        impl crate::Texts for #set {
            #[allow(unreachable_patterns, unused_variables)]
            fn visit_texts(&mut self, visit: &mut dyn FnMut(&mut #text)) {
                match self { #(Self::#texts(m) => m.visit_texts(visit),)* _ => {} }
            }
        }
        #(impl From<#paths> for #set { fn from(m: #paths) -> Self { Self::#variants(m) } })*
    }
}
