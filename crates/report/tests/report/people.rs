//! The other texts for people: the plan and the outcome of a fix, the self-check, errors.

use crate::cases;
use whydrop_model::{Action, Applicability, Lang, Phrase, Verdict, finding::Step};
use whydrop_report::error::Problem;
use whydrop_report::self_check::{SelfCheckItem, Sight, self_check};
use whydrop_report::text::{Options, outcome, plan};

fn string(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_plan_shows_each_change_with_its_undo() {
    let report = cases::source_case();
    let text = string(|out| plan(&report, &[(0, 0), (2, 0)], &Options::default(), out));
    assert_eq!(
        text,
        "\
2 change(s): 2 safe
  1   nginx, filter INPUT, rule 1: delete the rule
      nsenter -t 4123 -n iptables-nft -D INPUT 1
      undo  nsenter -t 4123 -n iptables-nft -I INPUT 1 -p tcp -m statistic --mode random --probability 0.3 -j DROP
      until a restart of nginx: /start.sh in the image adds the rule
  3   nginx, eth0 qdisc netem: remove the qdisc
      nsenter -t 4123 -n tc qdisc del dev eth0 root
      undo  nsenter -t 4123 -n tc qdisc add dev eth0 root handle 800d: netem limit 1000 loss 30%
"
    );
    let nothing =
        string(|out| plan(&report, &[(7, 0)], &Options { lang: Lang::Zh, ..Options::default() }, out));
    assert_eq!(nothing, "没有可提议的改动\n");
}

#[test]
fn a_plan_takes_changes_back_in_reverse_order() {
    let mut report = cases::source_case();
    let up = |dev: &str| Step {
        target: "docker:nginx".into(),
        action: Action::LinkState { dev: dev.into(), up: true },
    };
    let fix = &mut report.findings[0].fixes[0];
    fix.steps = vec![up("a"), up("b")];
    fix.applicability = Applicability::Disruptive;
    let text = string(|out| plan(&report, &[(0, 0)], &Options::default(), out));
    let undo: Vec<&str> = text.lines().skip_while(|l| !l.contains("undo")).take(2).collect();
    assert!(
        undo[0].ends_with("ip link set dev b down") && undo[1].ends_with("ip link set dev a down"),
        "{text}"
    );
    assert!(text.starts_with("1 change(s): 1 disruptive"), "{text}");
}

#[test]
fn an_outcome_compares_cause_by_cause() {
    let before = cases::source_case();
    let mut after = cases::clear();
    // Once the first rule is gone, the one behind it has another number: still the same rule.
    let mut left = cases::drop_rule("OUTPUT", 1, 4);
    left.subject = "filter OUTPUT, rule 7".into();
    after.findings = vec![left];
    after.verdict = Verdict::Loss;
    after.probes = vec![cases::probe(46, 0, 4)];
    cases::charge(&mut after, 0);
    let text = string(|out| outcome(&before, &after, &Options::default(), out));
    assert_eq!(
        text,
        "  1   nginx, filter INPUT, rule 1: gone (lost 14 before)
  2   nginx, filter OUTPUT, rule 1: still there (lost 11 before, 4 now)
  3   nginx, eth0 qdisc netem: gone (lost 8 before)
  tcp://172.17.0.2:80: loss 56 % before, 8 % now
LOSS  4 of 50 SYNs to 172.17.0.2:80 unanswered. 1 cause, nothing unexplained
"
    );
}

#[test]
fn a_cause_out_of_sight_is_not_called_gone() {
    let mut after = cases::inconclusive();
    after.probes.clear();
    let text = string(|out| outcome(&cases::source_case(), &after, &Options::default(), out));
    assert!(!text.contains("gone") && text.contains("not seen any more, but"), "{text}");
}

#[test]
fn a_self_check_says_what_is_hidden_and_what_would_show_it() {
    let item = |en: &str, zh: &str, sight, needs: Option<&str>| SelfCheckItem {
        name: cases::phrase(en, zh),
        sight,
        detail: cases::phrase("read over netlink", "经 netlink 读取"),
        needs: needs.map(str::to_owned),
    };
    let items = [
        item("links", "网卡", Sight::Full, None),
        item("kernel drops", "内核丢包事件", Sight::Blind, Some("CAP_BPF")),
    ];
    let text = string(|out| self_check(&items, &Options::default(), out));
    assert_eq!(
        text,
        "\
whydrop does not see all of this machine: 1 of 2 things are hidden, wholly or in
part.

  links         seen      read over netlink
  kernel drops  not seen  read over netlink
                          needs CAP_BPF
"
    );
    let zh = string(|out| self_check(&items, &Options { lang: Lang::Zh, ..Options::default() }, out));
    assert!(zh.contains("  网卡          可见    经 netlink 读取"), "{zh}");
}

#[test]
fn an_error_names_operation_object_reason_and_remedy() {
    let problem = Problem {
        reason: Some(Phrase::same("operation not permitted")),
        needs: Some(cases::phrase(
            "CAP_NET_ADMIN in the namespace of the container",
            "该容器命名空间内的 CAP_NET_ADMIN",
        )),
        tries: Some("sudo whydrop diagnose nginx".into()),
        ..Problem::new(cases::phrase(
            "cannot read the rules of docker:nginx",
            "无法读取 docker:nginx 的防火墙规则",
        ))
    };
    assert_eq!(
        string(|out| problem.write(Lang::En, out)),
        "\
error: cannot read the rules of docker:nginx: operation not permitted
  needs: CAP_NET_ADMIN in the namespace of the container
  try:   sudo whydrop diagnose nginx
"
    );
    assert_eq!(
        string(|out| problem.write(Lang::Zh, out)),
        "\
错误：无法读取 docker:nginx 的防火墙规则：operation not permitted
  需要：该容器命名空间内的 CAP_NET_ADMIN
  可试：sudo whydrop diagnose nginx
"
    );
    let typo = Problem {
        close: vec!["nginx (docker, running)".into(), "nginx-test\x1b (netns)".into()],
        ..Problem::new(Phrase::same("\"ngnix\" is no container and no namespace here"))
    };
    let text = string(|out| typo.write(Lang::En, out));
    assert!(text.ends_with("  close: nginx (docker, running), nginx-test\\u{1b} (netns)\n"), "{text}");
}
