"""`python -m packetclip_sensor` is `packetclip`."""

import sys

from packetclip_sensor.cli.app import main

sys.exit(main())
