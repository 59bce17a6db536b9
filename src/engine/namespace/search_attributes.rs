//! `ChangeSearchAttributes`: a namespace gets search attributes, or loses some.
//!
//! An attribute takes the first free *field* of its type, whose name contains the type: `Keyword01`, `Int03`. Namespaces hold the
//! names by their fields, which is also what `DescribeNamespace` shows, and `UpdateNamespace` changes, as
//! `custom_search_attribute_aliases`.

use std::collections::BTreeMap;

use crate::engine::rejection::Rejection;
use crate::proto::commands::ChangeSearchAttributes;
use crate::proto::state::Namespace;
use crate::proto::temporal::enums::v1::IndexedValueType as Type;

/// Fields of one type in a namespace: their numbers have two digits. Temporal's server allocates 3 of each type on SQL stores,
/// and 10 of Keyword, unless it is configured otherwise; on Elasticsearch it has no such limit.
const FIELDS_MAX: usize = 99;

/// The types with their names, as Temporal's API writes them.
pub const TYPES: [(Type, &str); 7] = [
    (Type::Text, "Text"),
    (Type::Keyword, "Keyword"),
    (Type::Int, "Int"),
    (Type::Double, "Double"),
    (Type::Bool, "Bool"),
    (Type::Datetime, "Datetime"),
    (Type::KeywordList, "KeywordList"),
];

pub fn type_name(of: Type) -> &'static str {
    TYPES.iter().find(|(each, _)| *each == of).map_or("Unspecified", |(_, name)| name)
}

/// The type of a field's values; none if there can be no such field.
pub fn type_of_field(field: &str) -> Option<Type> {
    let (name, number) = field.split_at_checked(field.len().checked_sub(2)?)?;
    let is_number = number.bytes().all(|digit| digit.is_ascii_digit()) && number != "00";
    TYPES.iter().find(|(_, each)| is_number && *each == name).map(|(of, _)| *of)
}

/// What a namespace becomes. An attribute that is there keeps its type, and one that is not there need not be removed:
/// both as Temporal's server has it.
pub fn change(present: &Namespace, command: &ChangeSearchAttributes) -> Result<Namespace, Rejection> {
    let mut changed = present.clone();
    let aliases = &mut changed.custom_search_attribute_aliases;
    aliases.retain(|_, name| !command.remove.contains(name));
    for (name, number) in &command.add {
        let of = Type::try_from(*number).unwrap_or_default();
        if aliases.values().any(|present| present == name) {
            continue;
        }
        let Some(field) = free_field(aliases, of) else {
            let used = aliases.keys().filter(|field| type_of_field(field) == Some(of)).count();
            return Err(Rejection::InvalidArgument(format!(
                "Unable to create search attributes: cannot have more than {used} search attribute of type {}.",
                type_name(of)
            )));
        };
        aliases.insert(field, name.clone());
    }
    Ok(changed)
}

/// Merges an update of names by fields, as `UpdateNamespace` has it: an empty name frees the field, a name that is there stays
/// where it is, and a field that is taken is not given to another name.
pub fn merge_aliases(
    present: &mut BTreeMap<String, String>,
    update: BTreeMap<String, String>,
) -> Result<(), Rejection> {
    let before = present.clone();
    for (field, name) in update {
        if name.is_empty() {
            present.remove(&field);
        } else if !before.values().any(|taken| *taken == name) {
            if before.contains_key(&field) {
                let refused = "Custom search attribute field name already allocated.";
                return Err(Rejection::InvalidArgument(refused.into()));
            }
            present.insert(field, name);
        }
    }
    Ok(())
}

fn free_field(aliases: &BTreeMap<String, String>, of: Type) -> Option<String> {
    let fields = (1..=FIELDS_MAX).map(|number| format!("{}{number:02}", type_name(of)));
    fields.filter(|field| type_of_field(field).is_some()).find(|field| !aliases.contains_key(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(aliases: &[(&str, &str)]) -> Namespace {
        let aliases = aliases.iter().map(|(field, name)| ((*field).to_owned(), (*name).to_owned()));
        Namespace {
            name: "shop".into(),
            description: "kept".into(),
            custom_search_attribute_aliases: aliases.collect(),
            ..Namespace::default()
        }
    }

    fn asked(add: &[(&str, Type)], remove: &[&str]) -> ChangeSearchAttributes {
        ChangeSearchAttributes {
            add: add.iter().map(|(name, of)| ((*name).to_owned(), *of as i32)).collect(),
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn an_attribute_takes_the_first_free_field_of_its_type() {
        let present = namespace(&[("Keyword01", "Region"), ("Keyword03", "Shop")]);
        let add = [("Customer", Type::Keyword), ("Tags", Type::KeywordList), ("Total", Type::Double)];
        let changed = change(&present, &asked(&add, &[])).unwrap();
        let expected = [
            ("Keyword01", "Region"),
            ("Keyword02", "Customer"),
            ("Keyword03", "Shop"),
            ("KeywordList01", "Tags"),
            ("Double01", "Total"),
        ];
        assert_eq!(changed, namespace(&expected));
    }

    #[test]
    fn what_is_there_keeps_its_type_and_what_is_not_need_not_be_removed() {
        let present = namespace(&[("Keyword01", "Region"), ("Int01", "Floor")]);
        let command = asked(&[("Region", Type::Int)], &["Floor", "Colour"]);
        assert_eq!(change(&present, &command).unwrap(), namespace(&[("Keyword01", "Region")]));
    }

    #[test]
    fn changes_at_the_same_time_lose_nothing() {
        let first = change(&namespace(&[]), &asked(&[("A", Type::Int)], &[])).unwrap();
        let second = change(&first, &asked(&[("B", Type::Int)], &[])).unwrap();
        assert_eq!(second, namespace(&[("Int01", "A"), ("Int02", "B")]));
    }

    #[test]
    fn an_update_by_fields_frees_takes_and_keeps() {
        let merged = |update: &[(&str, &str)]| {
            let mut aliases = namespace(&[("Keyword01", "Region"), ("Int01", "Floor")]).custom_search_attribute_aliases;
            let update = namespace(update).custom_search_attribute_aliases;
            merge_aliases(&mut aliases, update).map(|()| aliases)
        };
        let expected = [("Keyword01", "Region"), ("Bool01", "Open")];
        let aliases = namespace(&expected).custom_search_attribute_aliases;
        assert_eq!(merged(&[("Int01", ""), ("Keyword02", "Region"), ("Bool01", "Open")]), Ok(aliases));
        let refused = merged(&[("Keyword01", "Country")]).unwrap_err().message();
        assert_eq!(refused, "Custom search attribute field name already allocated.");
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let full: Vec<_> = (1..=99).map(|number| (format!("Bool{number:02}"), format!("b{number}"))).collect();
        let full = Namespace { custom_search_attribute_aliases: full.into_iter().collect(), ..namespace(&[]) };
        for (of, used) in [(Type::Bool, 99), (Type::Unspecified, 0)] {
            let refused = change(&full, &asked(&[("More", of)], &[])).unwrap_err().message();
            let expected = format!("cannot have more than {used} search attribute of type {}.", type_name(of));
            assert!(refused.ends_with(&expected), "{refused}");
        }
    }

    #[test]
    fn a_field_tells_its_type() {
        for (of, name) in TYPES {
            assert_eq!(type_of_field(&format!("{name}01")), Some(of));
            assert_eq!(type_of_field(&format!("{name}99")), Some(of));
        }
        for field in ["Keyword00", "Keyword1", "Keyword001", "Keyword", "01", "", "é", "Unspecified01", "Temporal01"] {
            assert_eq!(type_of_field(field), None, "{field}");
        }
    }
}
