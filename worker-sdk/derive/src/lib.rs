//! `#[derive(Record)]`: the layout of a structure as one number. See `hotpair_worker::Record`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, parse_macro_input};

/// Implements `hotpair_worker::Record` for a structure with named fields, each of which is one.
#[proc_macro_derive(Record)]
pub fn record(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    let refuse = |text| Err(Error::new_spanned(&input.ident, text));
    if !input.generics.params.is_empty() {
        return refuse("a record has one layout, so it has no parameters");
    }
    let Data::Struct(data) = &input.data else {
        return refuse("a record is a structure");
    };
    let Fields::Named(fields) = &data.fields else {
        return refuse("the fields of a record have names");
    };
    let fixed = input.attrs.iter().any(|attribute| attribute.path().is_ident("repr"));
    if !fixed {
        return refuse("a record has a layout of its own: add #[repr(C)]");
    }
    let name = &input.ident;
    let mut layout = quote!(::hotpair_worker::layout::begin(::core::mem::size_of::<#name>()));
    for field in &fields.named {
        let (ident, kind) = (&field.ident, &field.ty);
        layout = quote! {
            ::hotpair_worker::layout::field(
                #layout,
                ::core::stringify!(#ident),
                ::core::mem::offset_of!(#name, #ident),
                <#kind as ::hotpair_worker::Record>::HASH,
            )
        };
    }
    Ok(quote! {
        impl ::hotpair_worker::Record for #name {
            const HASH: u64 = #layout;
        }
    })
}
