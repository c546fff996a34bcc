"""A conversation that outlives its program, with Portico."""

import json
import sys

from portico.agent import Agent

friend = Agent("default", "You are a friend.", name="friend")
print(json.dumps(friend(sys.argv[1], session="ada").content))
