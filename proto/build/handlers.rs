//! Generates one handler trait per gRPC service, with an error type that the implementer chooses, and the adapter that serves it.
//! Handlers can thus use `?` on errors that convert into that type, and are plain `async fn`s.

use crate::names::{member, path, snake};
use proc_macro2::{Ident, TokenStream};
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use quote::{format_ident, quote};

/// Generates the handlers of all services of the contract.
pub fn handlers(set: &FileDescriptorSet) -> TokenStream {
    let files = set.file.iter().filter(|file| file.package().starts_with("hansa."));
    let services = files.flat_map(|file| file.service.iter().map(move |one| service(file, one)));
    quote!(#(#services)*)
}

fn service(file: &FileDescriptorProto, service: &ServiceDescriptorProto) -> TokenStream {
    let name = service.name();
    let (tonic_trait, handler) = (format_ident!("{name}"), format_ident!("{name}Handler"));
    let (adapter, function) = (format_ident!("{name}Adapter"), member(&snake(name)));
    let module = format_ident!("{}_server", snake(name));
    let package = path(&format!(".{}", file.package()));
    let (module, server) = (quote!(#package::#module), format_ident!("{name}Server"));
    let declared = service.method.iter().map(declare);
    let adapted = service.method.iter().map(adapt);
    let docs = [
        format!("The methods of `{name}`, with an error type of the implementer's choice."),
        format!("Serves a [`{handler}`] as `{name}`."),
        "Returns the gRPC service of a handler, with limits on the sizes of messages.".to_owned(),
    ];
    let [trait_doc, adapter_doc, function_doc] = docs;
    quote! {
        #[doc = #trait_doc]
        pub trait #handler: Send + Sync + 'static {
            /// The error of all methods.
            type Error: Into<tonic::Status> + Send;
            #(#declared)*
        }
        #[doc = #adapter_doc]
        #[derive(Debug)]
        pub struct #adapter<H>(pub H);
        #[tonic::async_trait]
        impl<H: #handler> #module::#tonic_trait for #adapter<H> { #(#adapted)* }
        #[doc = #function_doc]
        pub fn #function<H: #handler>(
            handler: H,
            sizes: MessageSizes,
        ) -> #module::#server<#adapter<H>> {
            #module::#server::new(#adapter(handler))
                .max_decoding_message_size(sizes.request_bytes)
                .max_encoding_message_size(sizes.response_bytes)
        }
    }
}

/// The names of a method: its function, its request, what its response contains, and the type of its stream.
fn names(method: &MethodDescriptorProto) -> (Ident, TokenStream, TokenStream, Ident) {
    let stream = format_ident!("{}Stream", method.name());
    let function = member(&snake(method.name()));
    let output = if method.server_streaming() { quote!(Self::#stream) } else { path(method.output_type()) };
    (function, path(method.input_type()), output, stream)
}

fn declare(method: &MethodDescriptorProto) -> TokenStream {
    let (function, input, output, stream) = names(method);
    let doc = format!("Handles `{}`.", method.name());
    let item = path(method.output_type());
    let stream = method.server_streaming().then(|| {
        quote! {
            /// The responses of the streaming method of this name.
            type #stream: tonic::codegen::tokio_stream::Stream<Item = Result<#item, tonic::Status>> + Send + 'static;
        }
    });
    quote! {
        #stream
        #[doc = #doc]
        fn #function(
            &self,
            request: tonic::Request<#input>,
        ) -> impl Future<Output = Result<tonic::Response<#output>, Self::Error>> + Send;
    }
}

fn adapt(method: &MethodDescriptorProto) -> TokenStream {
    let (function, input, output, stream) = names(method);
    let alias = method.server_streaming().then(|| quote!(type #stream = H::#stream;));
    quote! {
        #alias
        async fn #function(
            &self,
            request: tonic::Request<#input>,
        ) -> Result<tonic::Response<#output>, tonic::Status> {
            self.0.#function(request).await.map_err(Into::into)
        }
    }
}
