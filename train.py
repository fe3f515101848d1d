from claf2.cli import train

train()
