"""Ansible's plugins of this project. `base` is shared by the actions; Ansible itself loads everything else."""
