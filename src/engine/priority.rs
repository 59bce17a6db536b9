//! Priority and fairness: what is not set for an activity or a child, it inherits from its workflow.

use crate::proto::temporal::common::v1::Priority;

/// The priority of what a workflow begins. Temporal: the fields that are not set are inherited, each by itself.
pub fn inherited(of_workflow: Option<&Priority>, own: Option<&Priority>) -> Option<Priority> {
    let (Some(base), Some(own)) = (of_workflow, own) else { return own.or(of_workflow).cloned() };
    let (mut merged, base) = (own.clone(), base.clone());
    if merged.priority_key == 0 {
        merged.priority_key = base.priority_key;
    }
    if merged.fairness_key.is_empty() {
        merged.fairness_key = base.fairness_key;
    }
    if merged.fairness_weight == 0.0 {
        merged.fairness_weight = base.fairness_weight;
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_inherited_by_itself() {
        let of = |key, fairness: &str, weight| Priority {
            priority_key: key,
            fairness_key: fairness.into(),
            fairness_weight: weight,
        };
        let workflow = of(2, "tenant", 3.0);
        assert_eq!(inherited(Some(&workflow), None), Some(workflow.clone()));
        assert_eq!(inherited(None, Some(&workflow)), Some(workflow.clone()));
        assert_eq!(inherited(Some(&workflow), Some(&of(5, "", 0.0))), Some(of(5, "tenant", 3.0)));
        assert_eq!(inherited(Some(&workflow), Some(&of(0, "own", 1.5))), Some(of(2, "own", 1.5)));
        assert_eq!(inherited(None, None), None);
    }
}
