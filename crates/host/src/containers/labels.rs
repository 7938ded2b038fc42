//! What engines write beside a container: Kubernetes' labels, nerdctl's, compose's, as labels or OCI annotations.
//!
//! The keys are public: kubelet's `pkg/kubelet/types/labels.go`, containerd's `pkg/cri/annotations`, CRI-O's
//! `pkg/annotations`, nerdctl's `pkg/labels`, compose's `pkg/api/labels.go`.

use super::Container;
use std::collections::HashMap;
use whydrop_model::{Pod, TargetKind};

/// Labels or annotations.
pub(super) type Labels = HashMap<String, String>;

const NAME: [&str; 3] = ["io.kubernetes.container.name", "io.kubernetes.cri.container-name", "nerdctl/name"];
const POD: [&str; 3] =
    ["io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.KubeName"];
const POD_NAMESPACE: [&str; 3] =
    ["io.kubernetes.pod.namespace", "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri-o.Namespace"];
const POD_UID: [&str; 2] = ["io.kubernetes.pod.uid", "io.kubernetes.cri.sandbox-uid"];
const SANDBOX: [&str; 3] =
    ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID", "io.kubernetes.sandbox.id"];
/// What holds a pod's namespaces and runs nothing of the user's.
const INFRA: [(&str, &str); 5] = [
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.cri-containerd.kind", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.kubernetes.docker.type", "podsandbox"),
    ("io.kubernetes.container.name", "POD"),
];
const IMAGE: [&str; 4] = [
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.Image",
    "nerdctl/image-name",
];
const PROJECT: [&str; 2] = ["com.docker.compose.project", "io.podman.compose.project"];
const SERVICE: [&str; 2] = ["com.docker.compose.service", "io.podman.compose.service"];
/// A key that CRI-O alone writes; Podman has others of its family.
const CRIO: &str = "io.kubernetes.cri-o.ContainerID";
/// Where CRI-O keeps the kubelet's labels, as JSON.
const CRIO_LABELS: &str = "io.kubernetes.cri-o.Labels";
/// Parts of a name that the kubelet gave: `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`, for a sandbox without the first.
const KUBELET_PREFIX: &str = "k8s_";

impl Container {
    /// Takes over what `labels` say and nothing else said.
    pub(super) fn read_labels(&mut self, labels: &Labels) {
        let first = |keys: &[&str]| {
            keys.iter().find_map(|key| labels.get(*key)).filter(|value| !value.is_empty()).cloned()
        };
        if labels.contains_key(CRIO) {
            self.engine = TargetKind::Crio;
        }
        // One level only: what is inside was the user's to write.
        let inner = labels.get(CRIO_LABELS).and_then(|text| serde_json::from_str::<Labels>(text).ok());
        if let Some(mut inner) = inner {
            inner.remove(CRIO_LABELS);
            self.read_labels(&inner);
        }
        self.infra |= INFRA.iter().any(|(key, value)| labels.get(*key).is_some_and(|v| v == value));
        if let Some(name) = first(&NAME).filter(|name| !self.infra && !self.names.contains(name)) {
            self.names.insert(0, name);
        }
        self.image = self.image.take().or_else(|| first(&IMAGE));
        self.sandbox = self.sandbox.take().or_else(|| first(&SANDBOX));
        if self.pod.is_none()
            && let (Some(name), Some(namespace)) = (first(&POD), first(&POD_NAMESPACE))
        {
            self.pod = Some(Pod { namespace, name, uid: first(&POD_UID) });
        }
        if self.service.is_none()
            && let (Some(project), Some(service)) = (first(&PROJECT), first(&SERVICE))
        {
            self.service = Some(format!("{project}/{service}"));
        }
    }

    /// Takes a name that the kubelet gave apart: container, pod, namespace and UID cannot hold an underscore.
    pub(super) fn read_kubelet_name(&mut self) {
        let parsed = self.names.iter().find_map(|name| {
            let parts: Vec<&str> = name.strip_prefix(KUBELET_PREFIX)?.split('_').collect();
            let (container, pod) = match *parts.as_slice() {
                [container, name, namespace, uid, _attempt] => (container, (name, namespace, uid)),
                [name, namespace, uid, _attempt] => ("POD", (name, namespace, uid)),
                _ => return None,
            };
            let (name, namespace, uid) = pod;
            let pod = Pod { namespace: namespace.into(), name: name.into(), uid: Some(uid.into()) };
            Some((container.to_owned(), pod))
        });
        let Some((name, pod)) = parsed else { return };
        self.pod.get_or_insert(pod);
        match name.as_str() {
            "POD" => self.infra = true,
            _ if !self.names.contains(&name) => self.names.insert(0, name),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(engine: TargetKind, pairs: &[(&str, &str)]) -> Container {
        let labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut container = Container::new(engine, "0123456789abcdef");
        container.read_labels(&labels);
        container
    }

    #[test]
    fn each_engines_own_words() {
        let containerd = read(
            TargetKind::Containerd,
            &[
                ("io.kubernetes.cri.container-type", "container"),
                ("io.kubernetes.cri.container-name", "nginx"),
                ("io.kubernetes.cri.sandbox-name", "web"),
                ("io.kubernetes.cri.sandbox-namespace", "shop"),
                ("io.kubernetes.cri.sandbox-id", "abcd"),
                ("io.kubernetes.cri.image-name", "docker.io/library/nginx:1"),
            ],
        );
        assert_eq!((containerd.name(), containerd.infra), ("nginx", false));
        assert_eq!(containerd.pod.as_ref().map(Pod::word).as_deref(), Some("shop/web"));
        assert_eq!(containerd.image.as_deref(), Some("docker.io/library/nginx:1"));
        let crio = read(
            TargetKind::Podman,
            &[
                ("io.kubernetes.cri-o.ContainerID", "abcd"),
                ("io.kubernetes.cri-o.ContainerType", "sandbox"),
                ("io.kubernetes.cri-o.Labels", r#"{"io.kubernetes.container.name":"POD"}"#),
                ("io.kubernetes.cri-o.KubeName", "web"),
                ("io.kubernetes.cri-o.Namespace", "shop"),
            ],
        );
        assert_eq!((crio.engine, crio.infra), (TargetKind::Crio, true));
        assert_eq!(crio.pod.as_ref().map(Pod::word).as_deref(), Some("shop/web"));
        let podman = [("io.container.manager", "libpod"), ("io.kubernetes.cri-o.TTY", "false")];
        assert_eq!(read(TargetKind::Podman, &podman).engine, TargetKind::Podman);
        let nerdctl = read(
            TargetKind::Containerd,
            &[
                ("nerdctl/name", "api"),
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", "api"),
            ],
        );
        assert_eq!((nerdctl.name(), nerdctl.service.as_deref()), ("api", Some("shop/api")));
    }

    #[test]
    fn names_that_the_kubelet_gives() {
        let named = |name: &str| {
            let mut container = Container::new(TargetKind::Docker, "ab");
            container.names.push(name.to_owned());
            container.read_kubelet_name();
            container
        };
        let nginx = named("k8s_nginx_web-0_shop_6a2c0f0e-0000-4000-8000-000000000001_0");
        assert_eq!((nginx.name(), nginx.infra), ("nginx", false));
        assert_eq!(nginx.pod.as_ref().map(Pod::word).as_deref(), Some("shop/web-0"));
        let pause = named("k8s_POD_web-0_shop_6a2c0f0e-0000-4000-8000-000000000001_0");
        assert!(pause.infra && pause.pod.is_some());
        assert!(named("k8s_web-0_shop_6a2c0f0e-0000-4000-8000-000000000001_0").infra);
        assert!(named("k8s_a_b").pod.is_none() && named("web").pod.is_none());
    }
}
