"""What root runs on a node: units, admission, start, stop, collection, and what a node reports of itself.

Standard library and `contract` only, Python 3.8 or later. Ansible's modules call in (see
plugins/module_utils/on_node.py); nothing in here knows of them.
"""
