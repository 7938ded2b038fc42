//! Bridged frames in the IP firewall: the setting that sends them there, and what ends it.

use crate::evidence::case::Space;
use crate::fixes::fix;
use whydrop_model::action::Action;
use whydrop_model::netfilter::{Chain, Family, Tool};
use whydrop_model::{Fix, Text, text};

/// The setting for IPv4.
const FOR_V4: &str = "net.bridge.bridge-nf-call-iptables";
/// That for IPv6.
const FOR_V6: &str = "net.bridge.bridge-nf-call-ip6tables";

const OFF: Text =
    text!("let the bridge forward frames without the IP firewall", "让网桥转发帧时不经过 IP 防火墙");
const MEANT: Text = text!(
    "rules that filter or translate between ports of one bridge, such as those of container engines and Kubernetes, no longer see this traffic",
    "在同一网桥端口之间过滤或转换的规则（如容器引擎和 Kubernetes 的规则）将不再看到这些流量"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

/// The setting by which frames come to this chain.
pub fn setting(chain: &Chain) -> &'static str {
    let v6 = matches!(chain.tool, Tool::Ip6tablesNft | Tool::Ip6tablesLegacy) || chain.family == Family::Ip6;
    if v6 { FOR_V6 } else { FOR_V4 }
}

/// What ends it.
pub fn fixes(space: Space<'_>, chain: &Chain) -> Vec<Fix> {
    let name = setting(chain).to_owned();
    let was = space.after.sysctls.get(&name).and_then(|value| value.get()).cloned();
    let action = Action::Sysctl { name, value: "0".into(), was: was.unwrap_or_else(|| "1".into()) };
    let mut off = fix(space, OFF.phrase(), vec![action]);
    (off.caution, off.persist) = (Some(MEANT.phrase()), Some(PERSIST.phrase()));
    vec![off]
}
