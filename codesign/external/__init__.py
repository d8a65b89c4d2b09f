"""Published simulators run beside ours; see `codesign.external.compare`."""
