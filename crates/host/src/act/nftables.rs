//! Messages of nf_tables: what is asked and what is changed in one chain.

use super::own_rule::{OwnRule, renewable};
use crate::error::{Error, Result};
use crate::source::nftables::expr::{Attrs, Expr, Op, decode_all};
use crate::source::nftables::{
    GENMSG, GETCHAIN, GETRULE, SUBSYSTEM, family_number, hook_number, push_bytes, push_text,
};
use crate::sys::netlink::{BatchMessage, Netlink, errno};
use netlink_bindings::utils::{finalize_nested_header, push_nested_header};
use std::io;
use whydrop_model::action::ChainRef;
use whydrop_model::netfilter::{Hook, RuleVerdict, Tool};
use whydrop_model::text;

const NEWTABLE: u16 = SUBSYSTEM;
const GETTABLE: u16 = SUBSYSTEM | 1;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const DELCHAIN: u16 = SUBSYSTEM | 5;
pub(super) const NEWRULE: u16 = SUBSYSTEM | 6;
const DELRULE: u16 = SUBSYSTEM | 8;
pub(super) const CREATE: u16 = libc::NLM_F_CREATE as u16;
const EXCL: u16 = libc::NLM_F_EXCL as u16;
/// Refuse to delete what is not empty.
const NONREC: u16 = libc::NLM_F_NONREC as u16;

/// Attributes of a rule that make it up: expressions, compat information of x_tables, user data.
const RULE_EXPRESSIONS: u16 = 4;
const RULE_COMPAT: u16 = 5;
const RULE_USERDATA: u16 = 7;

/// nf_tables in one namespace.
pub(super) struct Tables {
    pub netlink: Netlink,
}

/// A base or plain chain as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// filter, nat or route; of base chains only.
    pub kind: Option<String>,
}

/// A rule of the kernel: handle and what it is made of.
#[derive(Clone, Debug)]
pub(super) struct RawRule {
    pub handle: u64,
    /// Attributes that can be given back to the kernel as they are.
    pub attributes: Vec<u8>,
}

impl Tables {
    pub fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::netfilter()? })
    }

    /// The chain, if there is one.
    pub fn chain(&mut self, chain: &ChainRef) -> Result<Option<Standing>> {
        let request = named(chain, 3);
        let parse =
            |reply: &[u8]| Some(Standing { kind: Attrs(reply.get(GENMSG..)?).text(7).map(str::to_owned) });
        match self.netlink.get_raw(GETCHAIN, &request, parse) {
            Ok(found) => Ok(found),
            Err(e) if errno(&e) == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(Error::io(text!("read the chain {object}", "读取链 {object}"), title(chain), &e)),
        }
    }

    /// Number of things in the chain's table; none if there is no such table.
    fn table_use(&mut self, chain: &ChainRef) -> Result<Option<u32>> {
        let mut request = header(chain);
        push_text(&mut request, 1, &chain.table);
        match self.netlink.get_raw(GETTABLE, &request, |reply| Attrs(reply.get(GENMSG..)?).u32(3)) {
            Ok(found) => Ok(found),
            Err(e) if errno(&e) == Some(libc::ENOENT) => Ok(None),
            Err(e) => {
                Err(Error::io(text!("read the table {object}", "读取表 {object}"), chain.table.as_str(), &e))
            }
        }
    }

    /// Rules of a chain, in order.
    pub fn rules(&mut self, chain: &ChainRef) -> Result<Vec<RawRule>> {
        // Kernels before 4.8 answer with all rules.
        let own = |reply: &[u8]| {
            let attrs = Attrs(reply.get(GENMSG..)?);
            let same = (attrs.text(1)?, attrs.text(2)?) == (chain.table.as_str(), chain.name.as_str());
            same.then(|| raw_rule(attrs)).flatten()
        };
        self.netlink.dump_raw(text!("the chain's rules", "链中的规则"), GETRULE, &named(chain, 2), own)
    }

    /// Makes a chain, and its table if there is none.
    pub fn add_chain(
        &mut self,
        chain: &ChainRef,
        hook: Option<(Hook, i32)>,
        policy: Option<&RuleVerdict>,
    ) -> Result<()> {
        let mut batch = vec![];
        if self.table_use(chain)?.is_none() {
            let mut table = header(chain);
            push_text(&mut table, 1, &chain.table);
            push_bytes(&mut table, 2, &0_u32.to_be_bytes());
            batch.push(BatchMessage { kind: NEWTABLE, flags: CREATE, payload: table });
        }
        let mut payload = named(chain, 3);
        if let Some((hook, priority)) = hook {
            let number = hook_number(chain.family, hook).ok_or_else(|| {
                Error::new(
                    text!("make the chain {object}", "创建链 {object}"),
                    title(chain),
                    text!("its family has no such hook", "它的协议族没有这个钩子").phrase(),
                )
            })?;
            let nested = push_nested_header(&mut payload, 4);
            push_bytes(&mut payload, 1, &number.to_be_bytes());
            push_bytes(&mut payload, 2, &priority.to_be_bytes());
            finalize_nested_header(&mut payload, nested);
            push_text(&mut payload, 7, chain_kind(chain, hook));
            if let Some(policy) = policy {
                push_bytes(&mut payload, 5, &policy_number(chain, policy)?.to_be_bytes());
            }
        }
        batch.push(BatchMessage { kind: NEWCHAIN, flags: CREATE | EXCL, payload });
        self.commit(&batch)
            .map_err(|e| Error::io(text!("make the chain {object}", "创建链 {object}"), title(chain), &e))
    }

    /// Deletes an empty chain, and its table if that is then empty.
    pub fn delete_chain(&mut self, chain: &ChainRef) -> Result<()> {
        let mut batch = vec![BatchMessage { kind: DELCHAIN, flags: NONREC, payload: named(chain, 3) }];
        if self.table_use(chain)? == Some(1) {
            let mut table = header(chain);
            push_text(&mut table, 1, &chain.table);
            batch.push(BatchMessage { kind: DELTABLE, flags: NONREC, payload: table });
        }
        self.commit(&batch)
            .map_err(|e| Error::io(text!("delete the chain {object}", "删除链 {object}"), title(chain), &e))
    }

    pub fn set_policy(&mut self, chain: &ChainRef, policy: &RuleVerdict) -> Result<()> {
        let mut payload = named(chain, 3);
        push_bytes(&mut payload, 5, &policy_number(chain, policy)?.to_be_bytes());
        self.commit(&[BatchMessage { kind: NEWCHAIN, flags: 0, payload }]).map_err(|e| {
            Error::io(text!("set the policy of {object}", "设置 {object} 的默认策略"), title(chain), &e)
        })
    }

    /// Inserts a rule in front of the one with this handle, or at the end of the chain.
    pub fn insert(&mut self, chain: &ChainRef, rule: &OwnRule, before: Option<u64>) -> Result<()> {
        self.commit(&rule.messages(chain, before)?).map_err(|e| {
            Error::io(text!("insert the rule into {object}", "在 {object} 中插入规则"), title(chain), &e)
        })
    }

    pub fn delete(&mut self, chain: &ChainRef, handle: u64) -> Result<()> {
        self.commit(&[deletion(chain, handle)]).map_err(|e| {
            Error::io(text!("delete the rule from {object}", "从 {object} 中删除规则"), title(chain), &e)
        })
    }

    /// Lets the kernel check, in one transaction that never takes effect, that the rule can be deleted and made again.
    pub fn rehearse_return(
        &mut self,
        chain: &ChainRef,
        handle: u64,
        rule: &OwnRule,
        before: Option<u64>,
    ) -> Result<()> {
        let mut batch = vec![deletion(chain, handle)];
        batch.extend(rule.messages(chain, before)?);
        self.netlink.rehearse(&batch).map_err(|e| {
            Error::io(text!("insert the rule into {object}", "在 {object} 中插入规则"), title(chain), &e)
        })
    }

    fn commit(&mut self, batch: &[BatchMessage]) -> io::Result<()> {
        self.netlink.batch(batch)
    }
}

fn deletion(chain: &ChainRef, handle: u64) -> BatchMessage {
    let mut payload = named(chain, 2);
    push_bytes(&mut payload, 3, &handle.to_be_bytes());
    BatchMessage { kind: DELRULE, flags: 0, payload }
}

/// `filter INPUT`, for messages.
pub(super) fn title(chain: &ChainRef) -> String {
    format!("{} {} {}", chain.family, chain.table, chain.name)
}

/// True for chains of nf_tables.
pub(super) const fn is_nft(tool: Tool) -> bool {
    matches!(tool, Tool::Nft | Tool::IptablesNft | Tool::Ip6tablesNft)
}

/// Type of a base chain: iptables has chains of three types, whydrop makes filters only.
pub(super) fn chain_kind(chain: &ChainRef, hook: Hook) -> &'static str {
    match (chain.tool, chain.table.as_str()) {
        (Tool::IptablesNft | Tool::Ip6tablesNft, "nat") => "nat",
        (Tool::IptablesNft | Tool::Ip6tablesNft, "mangle") if hook == Hook::Output => "route",
        _ => "filter",
    }
}

fn policy_number(chain: &ChainRef, policy: &RuleVerdict) -> Result<u32> {
    match policy {
        RuleVerdict::Drop => Ok(0),
        RuleVerdict::Accept => Ok(1),
        _ => Err(Error::new(
            text!("set the policy of {object}", "设置 {object} 的默认策略"),
            title(chain),
            text!("a policy is to accept or to drop", "默认策略只能是 accept 或 drop").phrase(),
        )),
    }
}

/// `struct nfgenmsg`.
pub(super) fn header(chain: &ChainRef) -> Vec<u8> {
    vec![family_number(chain.family), 0, 0, 0]
}

/// Header, table and chain; `number` is that of the chain's name in this message.
pub(super) fn named(chain: &ChainRef, number: u16) -> Vec<u8> {
    let mut out = header(chain);
    push_text(&mut out, 1, &chain.table);
    push_text(&mut out, number, &chain.name);
    out
}

fn raw_rule(attrs: Attrs<'_>) -> Option<RawRule> {
    let list = attrs.get(RULE_EXPRESSIONS).unwrap_or(&[]);
    let exprs = decode_all(list);
    let mut attributes = vec![];
    push_bytes(&mut attributes, libc::NLA_F_NESTED as u16 | RULE_EXPRESSIONS, &renewable(list));
    if let Some((protocol, inverted)) = compat(&exprs) {
        // The kernel does not show it, and needs it to check matches that ask for a protocol.
        let nested = push_nested_header(&mut attributes, RULE_COMPAT);
        push_bytes(&mut attributes, 1, &u32::from(protocol).to_be_bytes());
        push_bytes(&mut attributes, 2, &(u32::from(inverted) << 1).to_be_bytes());
        finalize_nested_header(&mut attributes, nested);
    }
    if let Some(data) = attrs.get(RULE_USERDATA) {
        push_bytes(&mut attributes, RULE_USERDATA, data);
    }
    Some(RawRule { handle: attrs.u64(3)?, attributes })
}

/// Protocol of a rule with matches or targets of x_tables, and whether it is negated.
fn compat(exprs: &[Expr<'_>]) -> Option<(u8, bool)> {
    if !exprs.iter().any(|expr| matches!(expr, Expr::Match { .. } | Expr::Target { .. })) {
        return None;
    }
    exprs.windows(2).find_map(|pair| match pair {
        // Protocol of the header, as iptables before 1.8.3 asks for it, or meta l4proto.
        [
            Expr::MetaLoad { key: 16, .. } | Expr::Payload { base: 1, offset: 9 | 6, len: 1, .. },
            Expr::Cmp { op: op @ (Op::Eq | Op::Neq), value: [protocol, ..], .. },
        ] => Some((*protocol, *op == Op::Neq)),
        _ => None,
    })
}
