"""Alert documents come in; files that other programs read go out: a layer of MITRE's ATT&CK Navigator, a STIX 2.1 bundle."""
