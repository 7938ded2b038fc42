//! Who took how many: a maximum flow from what was lost to those who may have taken it.
//!
//! Knows nothing of packets: supplies, capacities and edges with a preference. Edges are let in by preference, the
//! best first, and each time as much as possible is sent; an augmenting path may move what an earlier edge carried,
//! but never takes it back, so that whatever can be explained within the capacities is explained.

use std::collections::VecDeque;

/// One side may have taken something from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Number of the supply.
    pub from: usize,
    /// Number of the sink.
    pub to: usize,
    /// Preference: edges of a lower level are used first.
    pub level: u8,
}

/// How much each edge carries, in the order of the edges, so that as much as possible of `supplies` goes to sinks within
/// their `capacities` (none: without limit), by edges of the lowest levels that allow it.
pub fn maximum_flow(supplies: &[u64], capacities: &[Option<u64>], edges: &[Edge]) -> Vec<u64> {
    let mut net = Net::new(supplies, capacities, edges);
    let mut levels: Vec<u8> = edges.iter().map(|edge| edge.level).collect();
    levels.sort_unstable();
    levels.dedup();
    for level in levels {
        net.level = level;
        for supply in 0..supplies.len() {
            while net.augment(supply) {}
        }
    }
    net.carried
}

struct Net<'e> {
    edges: &'e [Edge],
    carried: Vec<u64>,
    left: Vec<u64>,
    room: Vec<Option<u64>>,
    of_supply: Vec<Vec<usize>>,
    of_sink: Vec<Vec<usize>>,
    level: u8,
}

#[derive(Clone, Copy)]
enum Node {
    Supply(usize),
    Sink(usize),
}

impl<'e> Net<'e> {
    fn new(supplies: &[u64], capacities: &[Option<u64>], edges: &'e [Edge]) -> Self {
        let (mut of_supply, mut of_sink) = (vec![vec![]; supplies.len()], vec![vec![]; capacities.len()]);
        for (index, edge) in edges.iter().enumerate() {
            if let (Some(from), Some(to)) = (of_supply.get_mut(edge.from), of_sink.get_mut(edge.to)) {
                from.push(index);
                to.push(index);
            }
        }
        for edges_of in &mut of_supply {
            edges_of.sort_by_key(|index: &usize| edges.get(*index).map(|edge| edge.level));
        }
        Self {
            edges,
            carried: vec![0; edges.len()],
            left: supplies.to_vec(),
            room: capacities.to_vec(),
            of_supply,
            of_sink,
            level: 0,
        }
    }

    /// Sends as much as one path from this supply allows; false if there is none.
    fn augment(&mut self, supply: usize) -> bool {
        if self.left.get(supply).is_none_or(|left| *left == 0) {
            return false;
        }
        let mut into_sink: Vec<Option<usize>> = vec![None; self.room.len()];
        let mut into_supply: Vec<Option<usize>> = vec![None; self.left.len()];
        let mut queue = VecDeque::from([Node::Supply(supply)]);
        let end = loop {
            match queue.pop_front() {
                None => return false,
                Some(Node::Supply(at)) => {
                    for index in self.of_supply.get(at).into_iter().flatten() {
                        let Some(edge) = self.edges.get(*index).filter(|edge| edge.level <= self.level)
                        else {
                            continue;
                        };
                        if let Some(into @ None) = into_sink.get_mut(edge.to) {
                            *into = Some(*index);
                            queue.push_back(Node::Sink(edge.to));
                        }
                    }
                }
                Some(Node::Sink(at)) => {
                    if self.room.get(at).is_some_and(|room| *room != Some(0)) {
                        break at;
                    }
                    for index in self.of_sink.get(at).into_iter().flatten() {
                        let carries = self.carried.get(*index).is_some_and(|n| *n > 0);
                        let Some(edge) = self.edges.get(*index).filter(|edge| carries && edge.from != supply)
                        else {
                            continue;
                        };
                        if let Some(into @ None) = into_supply.get_mut(edge.from) {
                            *into = Some(*index);
                            queue.push_back(Node::Supply(edge.from));
                        }
                    }
                }
            }
        };
        self.send(supply, end, &into_sink, &into_supply);
        true
    }

    fn send(
        &mut self,
        supply: usize,
        end: usize,
        into_sink: &[Option<usize>],
        into_supply: &[Option<usize>],
    ) {
        let mut path = vec![];
        let mut sink = end;
        let mut amount = self.left.get(supply).copied().unwrap_or(0);
        if let Some(Some(room)) = self.room.get(end) {
            amount = amount.min(*room);
        }
        while let Some(edge) = into_sink.get(sink).copied().flatten() {
            path.push((edge, true));
            let Some(from) = self.edges.get(edge).map(|edge| edge.from).filter(|from| *from != supply) else {
                break;
            };
            let Some(back) = into_supply.get(from).copied().flatten() else { break };
            amount = amount.min(self.carried.get(back).copied().unwrap_or(0));
            path.push((back, false));
            sink = self.edges.get(back).map_or(end, |edge| edge.to);
        }
        for (edge, forth) in path {
            if let Some(carried) = self.carried.get_mut(edge) {
                *carried = if forth { *carried + amount } else { *carried - amount };
            }
        }
        if let Some(left) = self.left.get_mut(supply) {
            *left -= amount;
        }
        if let Some(Some(room)) = self.room.get_mut(end) {
            *room -= amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edge(from: usize, to: usize, level: u8) -> Edge {
        Edge { from, to, level }
    }

    #[test]
    fn a_better_edge_goes_first_and_gives_way_where_that_explains_more() {
        let edges = [edge(0, 0, 0), edge(0, 1, 1), edge(1, 0, 1)];
        assert_eq!(maximum_flow(&[5], &[Some(3), None], &edges[..2]), [3, 2]);
        // Only the first sink can take the second supply: the first supply makes room.
        assert_eq!(maximum_flow(&[3, 3], &[Some(3), None], &edges), [0, 3, 3]);
    }

    #[test]
    fn what_nobody_may_have_taken_stays() {
        assert_eq!(maximum_flow(&[4], &[Some(9)], &[]), Vec::<u64>::new());
    }

    /// The most that any choice for each single unit explains.
    fn brute(supplies: &[u64], edges: &[Edge], from: usize, room: &mut Vec<u64>) -> u64 {
        let Some(units) = supplies.get(from) else { return 0 };
        if *units == 0 {
            return brute(supplies, edges, from + 1, room);
        }
        let mut less = supplies.to_vec();
        less[from] -= 1;
        let mut best = brute(&less, edges, from, room);
        for to in edges.iter().filter(|edge| edge.from == from).map(|edge| edge.to) {
            if room[to] > 0 {
                room[to] -= 1;
                best = best.max(1 + brute(&less, edges, from, room));
                room[to] += 1;
            }
        }
        best
    }

    proptest! {
        #[test]
        fn explains_as_much_as_any_choice_would(
            supplies in prop::collection::vec(0u64..3, 1..4),
            capacities in prop::collection::vec(prop::option::of(0u64..3), 1..4),
            pairs in prop::collection::vec((0usize..4, 0usize..4, 0u8..3), 0..8),
        ) {
            let mut edges: Vec<Edge> = vec![];
            for (from, to, level) in pairs {
                let known = edges.iter().any(|e| (e.from, e.to) == (from, to));
                if from < supplies.len() && to < capacities.len() && !known {
                    edges.push(edge(from, to, level));
                }
            }
            let carried = maximum_flow(&supplies, &capacities, &edges);
            let mut room: Vec<u64> = capacities.iter().map(|c| c.unwrap_or(100)).collect();
            prop_assert_eq!(carried.iter().sum::<u64>(), brute(&supplies, &edges, 0, &mut room));
            for (supply, units) in supplies.iter().enumerate() {
                let sent: u64 = edges.iter().zip(&carried).filter(|(e, _)| e.from == supply).map(|(_, n)| n).sum();
                prop_assert!(sent <= *units);
            }
            for (sink, capacity) in capacities.iter().enumerate() {
                let got: u64 = edges.iter().zip(&carried).filter(|(e, _)| e.to == sink).map(|(_, n)| n).sum();
                prop_assert!(capacity.is_none_or(|c| got <= c));
            }
        }
    }
}
