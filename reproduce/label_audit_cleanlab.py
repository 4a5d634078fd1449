"""cleanlab's part of label_audit.py, and the figures of all parts: run in .venv-cleanlab.

python label_audit_cleanlab.py issues IN.npz OUT.npz     labels, probabilities -> issue, score
python label_audit_cleanlab.py figures IN.npz            wrong, issue, score -> JSON on stdout
"""

import json
import sys

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

what, *paths = sys.argv[1:]
given = np.load(paths[0])
if what == 'issues':
    labels, p = given['labels'], given['probabilities']
    issue = find_label_issues(labels, p, n_jobs=1)
    np.savez(paths[1], issue=issue, score=get_label_quality_scores(labels, p))
else:
    wrong, issue, score = given['wrong'], given['issue'], given['score']
    precision, recall, f1, _ = precision_recall_fscore_support(
        wrong, issue, average='binary', zero_division=0
    )
    figures = {'precision': precision, 'recall': recall, 'f1': f1}
    # Without a wrong label there is nothing to rank.
    if wrong.any():
        figures |= {
            'auroc': roc_auc_score(wrong, -score),
            'ap': average_precision_score(wrong, -score),
        }
    print(json.dumps({name: float(value) for name, value in figures.items()}))
