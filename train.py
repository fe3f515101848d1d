from claf2.cli.main import train

train()
