"""Asks two servers the same questions and compares what they say. Usage: compare.py ZONE FILE ADDR:PORT ADDR:PORT"""

import functools
import sys

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.zone

TYPES = ["A", "AAAA", "NS", "SOA", "MX", "TXT", "SRV", "CNAME", "DNAME", "DS", "CAA", "PTR", "HTTPS", "TYPE65280"]
BESIDE = ["nothing", "*", "_tcp", "a.b.c"]


def sections(message):
    """Comparable parts of an answer: sets of records, whatever their order."""

    def records(section):
        return sorted(
            (rrset.name.to_text().lower(), rrset.ttl, rrset.rdtype, rdata.to_text().lower())
            for rrset in section
            for rdata in rrset
        )

    flags = message.flags & (dns.flags.QR | dns.flags.AA | dns.flags.TC | dns.flags.RA)
    parts = [message.rcode(), dns.flags.to_text(flags), records(message.answer), records(message.authority)]
    referral = not message.answer and not flags & dns.flags.AA
    # Beside referrals additional records are a courtesy, and servers differ.
    return parts + ([records(message.additional)] if referral else [])


def repeats(message):
    """Whether a section holds a record twice, which RFC 2181 section 5 forbids."""
    texts = [[rrset.to_text().lower() for rrset in section] for section in message.sections]
    return any(len(section) != len(set(section)) for section in texts)


def names(zone):
    found = set()
    for name in zone.nodes:
        absolute = name.derelativize(zone.origin)
        while absolute.is_subdomain(zone.origin):
            found.add(absolute)
            for label in BESIDE:
                try:
                    found.add(dns.name.from_text(label, absolute))
                except dns.name.NameTooLong:
                    pass
            if absolute == zone.origin:
                break
            absolute = absolute.parent()
    return sorted(found)


def main():
    origin, file, *servers = sys.argv[1:]
    servers = [server.split(":") for server in servers]
    zone = dns.zone.from_file(file, origin=origin, relativize=False, check_origin=False)
    compared, different = 0, []
    for name in names(zone):
        for rdtype in TYPES:
            for edns, ask in ((-1, dns.query.udp), (0, dns.query.udp), (0, dns.query.tcp)):
                query = dns.message.make_query(name, rdtype, use_edns=edns, payload=1232)
                query.flags &= ~dns.flags.RD
                ask_one = functools.partial(ask, query, timeout=5, one_rr_per_rrset=True)
                answers = [ask_one(where=host, port=int(port)) for host, port in servers]
                theirs, ours = (sections(answer) for answer in answers)
                compared += 1
                if theirs != ours or repeats(answers[1]):
                    different.append(f"{name} {rdtype} edns={edns} {ask.__name__}:\n  peer {theirs}\n  ours {ours}")
    for difference in different[:20]:
        print(difference)
    print(f"{compared} compared, {len(different)} different")
    sys.exit(1 if different else 0)


main()
