"""Arguments come in; what the user sees and an exit code go out. The work is done by the packages below."""
