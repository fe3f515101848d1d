from claf2.cli.main import evaluate

evaluate()
