//! Output of the commands: tables, JSON, and errors that say what to do.

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use hansa_chassis::policy::CONTRACT;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, SerializeOptions};
use tonic_types::StatusExt;

/// Returns a table with a header as text.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// Returns a message of the contract as JSON with the field names of the contract.
///
/// # Errors
/// If the message is not in the contract or cannot be converted.
pub fn json<M: Message + Name>(message: &M) -> anyhow::Result<serde_json::Value> {
    let descriptor = CONTRACT
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| anyhow::anyhow!("the message {} is not in the contract", M::full_name()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().stringify_64_bit_integers(true).use_proto_field_name(true);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Prints JSON.
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Returns an error as text for the user: message, rule, help and violations if the platform refused, else the causes.
pub fn explain(error: &anyhow::Error) -> String {
    let Some(status) = error.downcast_ref::<tonic::Status>() else {
        return format!("{error:#}");
    };
    let mut out = status.message().to_owned();
    if let Some(info) = status.get_details_error_info() {
        if let Some(rule) = info.metadata.get("rule") {
            out = format!("{out} ({rule})");
        }
        if let Some(help) = info.metadata.get("help") {
            out = format!("{out}\n  {help}");
        }
    }
    if let Some(details) = status.get_details_precondition_failure() {
        for violation in details.violations {
            out = format!("{out}\n  - {}: {}", violation.subject, violation.description);
        }
    }
    if let Some(details) = status.get_details_bad_request() {
        for violation in details.field_violations {
            out = format!("{out}\n  - {}: {}", violation.field, violation.description);
        }
    }
    out
}
