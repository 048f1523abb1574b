"""MTA-STS (RFC 8461): what a policy demands of the hosts of a domain, and what a policy is.

Each domain has a host with a certificate that is right or wrong, and a host with a policy. Whether
a policy counts shows in what becomes of mail to a host that it would not allow. Postfix 3.7 has no
MTA-STS, so Merpati alone is tried.
"""

import signal

from interop_secured import Sender, as_it_says, judge, says, with_roots
from interop_sts_cases import CASES, LATER, SILENT
from policy_host import PATH
from sts_world import StsWorld

NETWORK = "127.28."
DNS, MERPATI, NOBODY = (NETWORK + at for at in ("0.53", "0.26", "0.99"))
# Of these it must be told what the policy had to do with them.
EXPLAINED = ("enforce", "name", "stripped", "pattern", "testing")
THIRD = {"mx": 1, "mx2": 2, "mta-sts": 3}


def address(what, number):
    return f"{NETWORK}{THIRD[what]}.{number}"


def sts(score, binary, folder):
    """All cases, then what is kept."""
    with StsWorld(folder, CASES, DNS, address, NOBODY) as world:
        environment = with_roots(world.ca.root)
        place = (DNS, world.dns.port)
        with Sender(binary, folder / "merpati", MERPATI, place, environment=environment) as node:
            first = {}
            domains = [case.domain for case in CASES]
            score.case("MTA-STS: Merpati has tried all",
                       lambda: first.update(node.send("first", domains)))
            names = [f"first@{case.domain}" for case in CASES if case.name in EXPLAINED]
            for command in ("trace", "explain"):
                score.case(f"MTA-STS: {command} tells of it", lambda command=command: says(
                    node, command, first, names, "MTA-STS"))
            for case in CASES:
                score.case(f"MTA-STS: {case.about}", lambda case=case: hold(
                    world, case, case.want, "first", first))
            score.case("MTA-STS: who is asked for policies", lambda: asked(world))
            world.change()
            node.process.send_signal(signal.SIGKILL)
            node.process.wait(20)
            node.start(binary, environment)
            second, domains = {}, [case.domain for case, _ in LATER]
            score.case("MTA-STS: Merpati has tried again after kill -9",
                       lambda: second.update(node.send("second", domains)))
            for case, want in LATER:
                score.case(f"MTA-STS: after kill -9: {case.about}",
                           lambda case=case, want=want: hold(world, case, want, "second", second))


def hold(world, case, want, who, told):
    """One mail is as it must be."""
    found = as_it_says(told[case.domain][1])
    judge(want, found, world.hosts[case.name], f"{who}@{case.domain}",
          at=int(case.second is not None))


def asked(world):
    """Each host only for its own domain, where the record says that there is a policy."""
    for case in CASES:
        host = world.policies.get(case.name)
        if not host or case.https != "right":
            continue
        wanted = {(f"mta-sts.{case.domain}", PATH)} if case.name not in SILENT else set()
        if set(host.asked) != wanted:
            raise RuntimeError(f"{case.about}: it was asked for {host.asked}")
