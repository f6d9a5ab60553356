"""Ansible's plugins of this project. `base` is shared by the actions; everything else is loaded by Ansible itself."""
