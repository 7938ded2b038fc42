//! Packets that a policy rule sends elsewhere than the tables behind it would.

use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::route::{Lookup, turned_by_rule};
use crate::evidence::segment;
use crate::evidence::way::{End, Ending};
use std::net::IpAddr;
use whydrop_model::snapshot::{NextHop, PolicyRule};

/// Packets that a rule sends elsewhere.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// The rule.
    pub rule: &'a PolicyRule,
    /// The table that it names.
    pub table: u32,
    /// Whom they are for.
    pub to: IpAddr,
    /// Where it sends them.
    pub hop: &'a NextHop,
    /// Where they would go without it.
    pub right: &'a NextHop,
}

/// Rules that send packets of this flow where they do not arrive, while the tables behind them know somebody in view.
pub fn turns<'a>(space: Space<'a>, flow: &Flow<'a>) -> Vec<Turn<'a>> {
    let arrives = |to: IpAddr| match flow.address == Some(to) {
        true => flow.forward.end == End::Arrived && !flow.forward.gap,
        false => flow.back.as_ref().is_none_or(|back| back.end == End::Arrived && !back.gap),
    };
    let turn = |Ending { to, from, incoming, asks }: Ending| {
        let (rule, hop, otherwise) = turned_by_rule(space, to, from, incoming, asks)?;
        let table = rule.table?;
        let Lookup::Via(_, right) = otherwise else { return None };
        let there = right.link.and_then(|link| space.after.link(link))?;
        let known = segment::passage(space, there, right.gateway.unwrap_or(to)).is_some();
        let differs = (right.gateway, right.link) != (hop.gateway, hop.link);
        (known && differs && !arrives(to)).then_some(Turn { rule, table, to, hop, right })
    };
    flow.decisions(space).filter_map(turn).collect()
}
