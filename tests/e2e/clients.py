"""Resolves plan names as dnspython does and checks that all ways agree. Usage: clients.py PORT"""

import sys

import dns.edns
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

PORT = int(sys.argv[1])
NAMES = ["orders.corp.example.", "OrDeRs.corp.EXAMPLE."]
TARGET = {"10.9.1.21", "10.9.1.22", "10.9.1.23"}
LEGACY = {"10.0.1.11", "10.0.1.12"}


def told(name, subnet, ask, rdtype="A"):
    option = dns.edns.ECSOption.from_text(f"{subnet}/24")
    query = dns.message.make_query(name, rdtype, use_edns=0, options=[option])
    answer = ask(query, "127.0.0.1", port=PORT, timeout=5)
    assert answer.rcode() == dns.rcode.NOERROR, answer
    assert str(answer.question[0].name) == name, "the question comes back as it was written"
    scopes = [o.scopelen for o in answer.options if isinstance(o, dns.edns.ECSOption)]
    assert scopes == [24], scopes
    return {rdata.address for rrset in answer.answer for rdata in rrset if rrset.rdtype == dns.rdatatype.A}


def main():
    target = 0
    for n in range(200):
        subnet = f"203.0.{n}.0"
        answers = [told(name, subnet, ask) for name in NAMES for ask in (dns.query.udp, dns.query.tcp)]
        assert all(answer == answers[0] for answer in answers), (subnet, answers)
        assert answers[0] in (TARGET, LEGACY), answers[0]
        target += answers[0] == TARGET
        assert told(NAMES[0], subnet, dns.query.udp, "AAAA") == set()
    # p = 1/4 of 200: five standard deviations are 31.
    assert 19 <= target <= 81, target
    print(f"{target} of 200 on target; all agree")


main()
