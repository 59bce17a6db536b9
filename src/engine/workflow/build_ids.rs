//! The search attribute `BuildIds`: which builds of the worker have completed workflow tasks of a run. The server sets it, and no
//! event has it. A worker that takes no part in versioning leaves `unversioned`, and, if it has one, its build's id after that.

use crate::engine::payload::keyword_list;
use crate::proto::state;
use crate::proto::temporal::common::v1::Payload;

pub const NAME: &str = "BuildIds";

/// The attribute's value; none before the first completed task. The run's reset points list the builds: one that was
/// there before the run has a point in a run before.
pub fn of(head: &state::Run) -> Option<Payload> {
    if head.most_recent_completed_event_id == 0 {
        return None;
    }
    let points = head.reset_points.iter().flat_map(|points| &points.points);
    let mut own: Vec<_> = points.clone().filter(|point| point.run_id == head.run_id).collect();
    if own.is_empty() {
        own.extend(points.last());
    }
    let mut builds = vec!["unversioned".to_owned()];
    for point in own.into_iter().filter(|point| !point.build_id.is_empty()) {
        let build = format!("unversioned:{}", point.build_id);
        if !builds.contains(&build) {
            builds.push(build);
        }
    }
    Some(keyword_list(builds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::temporal::workflow::v1::{ResetPointInfo, ResetPoints};

    fn builds(points: &[(&str, &str)]) -> Option<String> {
        let point = |(run_id, build_id): &(&str, &str)| ResetPointInfo {
            run_id: (*run_id).into(),
            build_id: (*build_id).into(),
            ..ResetPointInfo::default()
        };
        let head = state::Run {
            run_id: "this".into(),
            most_recent_completed_event_id: 4 * points.len() as i64,
            reset_points: Some(ResetPoints { points: points.iter().map(point).collect() }),
            ..state::Run::default()
        };
        of(&head).map(|payload| String::from_utf8(payload.data.to_vec()).unwrap())
    }

    #[test]
    fn builds_are_named_in_their_order() {
        assert_eq!(builds(&[]), None);
        assert_eq!(builds(&[("this", "")]).as_deref(), Some(r#"["unversioned"]"#));
        let named = builds(&[("before", "0.9"), ("this", "1.0"), ("this", "\""), ("this", "1.0")]);
        assert_eq!(named.as_deref(), Some(r#"["unversioned","unversioned:1.0","unversioned:\""]"#));
        assert_eq!(builds(&[("before", "0.9")]).as_deref(), Some(r#"["unversioned","unversioned:0.9"]"#));
    }
}
