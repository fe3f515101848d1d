from claf2.cli import evaluate

evaluate()
