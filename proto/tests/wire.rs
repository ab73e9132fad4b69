//! What stands on the wire does not change unasked: every field by name, number and type, every
//! enum value and every method, against the list in `wire.txt`.
//!
//! What is in the list and not in the messages was removed, renumbered or retyped: another version
//! of Crossfade, or another xDS program, no longer understands us. What is new is added to the
//! list.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the messages has failed")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

/// A line for each thing that stands on the wire, sorted.
fn lines(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| !file.package().starts_with("google.protobuf")) {
        let package = file.package();
        file.message_type.iter().for_each(|message| of_message(package, message, &mut lines));
        file.enum_type.iter().for_each(|item| of_enum(package, item, &mut lines));
        file.service.iter().for_each(|service| of_service(package, service, &mut lines));
    }
    lines
}

fn of_message(parent: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{parent}.{}", message.name());
    for field in &message.field {
        lines.insert(format!("{name}.{}", of_field(message, field)));
    }
    message.nested_type.iter().for_each(|nested| of_message(&name, nested, lines));
    message.enum_type.iter().for_each(|nested| of_enum(&name, nested, lines));
}

fn of_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let mut text = format!("{} = {}", field.name(), field.number());
    if field.label() == Label::Repeated {
        text.push_str(" repeated");
    }
    let kind = if matches!(field.r#type(), Type::Message | Type::Enum) {
        field.type_name().trim_start_matches('.').to_owned()
    } else {
        field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase()
    };
    let _ = write!(text, " {kind}");
    if let Some(at) = field.oneof_index.and_then(|at| usize::try_from(at).ok()) {
        let _ = write!(text, " in {}", message.oneof_decl.get(at).map_or("", |oneof| oneof.name()));
    }
    text
}

fn of_enum(parent: &str, item: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &item.value {
        lines.insert(format!("{parent}.{}.{} = {}", item.name(), value.name(), value.number()));
    }
}

fn of_service(package: &str, service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    for method in &service.method {
        let stream = |streams| if streams { "stream " } else { "" };
        lines.insert(format!(
            "/{package}.{}/{} ({}{}) ({}{})",
            service.name(),
            method.name(),
            stream(method.client_streaming()),
            method.input_type().trim_start_matches('.'),
            stream(method.server_streaming()),
            method.output_type().trim_start_matches('.'),
        ));
    }
}

/// What differs between the list and the messages, in words.
fn breaks(list: &str, set: &FileDescriptorSet) -> Vec<String> {
    let listed: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    let here = lines(set);
    let gone = listed.difference(&here).map(|line| format!("changed or gone: {line}"));
    let new = here.difference(&listed).map(|line| format!("not in the list, add it: {line}"));
    gone.chain(new).collect()
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap()
}

#[test]
fn nothing_on_the_wire_changed_unasked() {
    let breaks = breaks(include_str!("wire.txt"), &descriptors());
    assert!(breaks.is_empty(), "proto/tests/wire.txt:\n{}", breaks.join("\n"));
}

/// Each kind of break is found: the field `split_bp` removed, renumbered, retyped, made repeated
/// and renamed; a method's stream gone; an enum value renumbered.
#[test]
fn every_kind_of_break_is_found() {
    let field = |change: fn(&mut FieldDescriptorProto)| {
        let mut set = descriptors();
        let fields = set.file.iter_mut().flat_map(|file| &mut file.message_type);
        let mut fields = fields.flat_map(|message| &mut message.field);
        change(fields.find(|field| field.name() == "split_bp").unwrap());
        set
    };
    let other = |change: fn(&mut FileDescriptorSet)| {
        let mut set = descriptors();
        change(&mut set);
        set
    };
    let cases = [
        field(|f| f.number = Some(99)),
        field(|f| f.set_type(Type::Uint64)),
        field(|f| f.set_label(Label::Repeated)),
        field(|f| f.name = Some("split".to_owned())),
        other(|set| {
            let mut messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
            let service = messages.find(|m| m.name() == "Service").unwrap();
            service.field.retain(|field| field.name() != "split_bp");
        }),
        other(|set| {
            let mut services = set.file.iter_mut().flat_map(|file| &mut file.service);
            let service = services.find(|service| service.name() == "ReportService").unwrap();
            service.method[0].client_streaming = Some(false);
        }),
        other(|set| {
            let mut enums = set.file.iter_mut().flat_map(|file| &mut file.enum_type);
            enums.next().unwrap().value[0].number = Some(77);
        }),
    ];
    for (n, set) in cases.iter().enumerate() {
        let breaks = breaks(include_str!("wire.txt"), set);
        assert!(breaks.iter().any(|line| line.starts_with("changed or gone")), "{n}: {breaks:?}");
    }
}
