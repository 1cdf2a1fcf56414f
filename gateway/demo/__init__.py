"""A provider to try the gateway against: AI/ML API's contract, with play money and faults on demand.

It imports nothing of the gateway, so that a mistake of the one is not repeated by the other.
"""
