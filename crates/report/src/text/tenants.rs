//! Which pod and which containers a target is, with image and engine: under the verdict.

use crate::layout::{Page, name, width};
use whydrop_model::{Lang, Report, Role, Target, Text, text};

/// Targets that are told one by one.
const SHOWN: usize = 4;
/// Containers that are named for one target.
const NAMED: usize = 6;

const LABEL: Text = text!("in", "位置");

/// Writes a line for each target that is a container or a pod; nothing if none is.
pub(super) fn write(report: &Report, lang: Lang, page: &mut Page) {
    let mut label = LABEL.get(lang);
    for line in lines(report, lang) {
        page.entry(label, width(LABEL.get(lang)) + 2, &line);
        label = "";
    }
}

/// `pod:shop/web: nginx (nginx:1), sidecar (busybox:1); containerd` for each target that somebody asked about.
pub(crate) fn lines(report: &Report, lang: Lang) -> Vec<String> {
    let asked = report.targets.iter().filter(|target| target.role == Role::Target);
    let told: Vec<String> = asked.filter_map(|target| line(target, lang)).collect();
    let more = told.len().saturating_sub(SHOWN);
    let rest = text!("and {n} more", "另有 {n} 个").fill(&[("n", &more)]);
    told.into_iter().take(SHOWN).chain((more > 0).then(|| rest.get(lang).to_owned())).collect()
}

fn line(target: &Target, lang: Lang) -> Option<String> {
    let facts = facts(target, lang)?;
    Some(
        text!("{id}: {facts}", "{id}：{facts}")
            .fill(&[("id", &name(&target.id)), ("facts", &facts)])
            .get(lang)
            .to_owned(),
    )
}

/// The containers of a target with their images, its pod where the id does not say it, and the engine; none if it is
/// no container.
pub(crate) fn facts(target: &Target, lang: Lang) -> Option<String> {
    let first = target.tenants.first()?;
    let comma = if lang == Lang::Zh { "、" } else { ", " };
    let named = target.tenants.iter().take(NAMED).map(|tenant| match &tenant.image {
        Some(image) => format!("{} ({})", name(&tenant.name), name(image)),
        None => name(&tenant.name),
    });
    let mut named = named.collect::<Vec<_>>().join(comma);
    let more = target.tenants.len().saturating_sub(NAMED);
    if more > 0 {
        named += &format!(" +{more}");
    }
    let mut facts = vec![named];
    if let Some(pod) = target.pod().map(|pod| format!("pod:{}", pod.word())).filter(|pod| *pod != target.id) {
        facts.push(name(&pod));
    }
    facts.push(first.engine.word().to_owned());
    Some(facts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_model::{Entry, Pod, TargetKind, Tenant};

    #[test]
    fn both_containers_of_a_pod_are_named_with_image_and_engine() {
        let pod = Pod { namespace: "shop".into(), name: "web".into(), uid: None };
        let tenant = |name: &str, image: Option<&str>| Tenant {
            engine: TargetKind::Containerd,
            id: format!("{name}0123456789ab"),
            name: name.into(),
            image: image.map(str::to_owned),
            pod: Some(pod.clone()),
        };
        let mut target = Target {
            id: "pod:shop/web".into(),
            kind: TargetKind::Pod,
            name: "shop/web".into(),
            netns_inode: 1,
            pid: None,
            container: None,
            role: Role::Target,
            entry: Entry::Here,
            tenants: vec![tenant("nginx", Some("nginx:1")), tenant("sidecar", None)],
        };
        assert_eq!(line(&target, Lang::En).unwrap(), "pod:shop/web: nginx (nginx:1), sidecar; containerd");
        target.id = "containerd:nginx".into();
        assert!(
            line(&target, Lang::Zh).unwrap().ends_with("nginx (nginx:1)、sidecar; pod:shop/web; containerd")
        );
        target.tenants.clear();
        assert_eq!(line(&target, Lang::En), None);
    }
}
