"""Exercise 4's second half: how low does the perplexity go with one recurrent layer?

Training methods beyond the book's (carried state, dropout, AdamW, schedules, a teacher), and models and methods to
compare with (n-grams, their mixture, PPMd, dynamic evaluation, ensembles). Other packages import these names from here.
The book's run imports nothing from this package.
"""

from timemachine.how_low.comparison import compare as compare
from timemachine.how_low.comparison import print_comparison as print_comparison
from timemachine.how_low.dynamic_evaluation import ADAPT_RATE as ADAPT_RATE
from timemachine.how_low.dynamic_evaluation import adaptive_nll as adaptive_nll
from timemachine.how_low.dynamic_evaluation import evaluate_adapting as evaluate_adapting
from timemachine.how_low.dynamic_evaluation import print_adapting as print_adapting
from timemachine.how_low.ensemble import load_models as load_models
from timemachine.how_low.language_model import RNNLMBeyond as RNNLMBeyond
from timemachine.how_low.mixture import Mixture as Mixture
from timemachine.how_low.mixture import log_loss as log_loss
from timemachine.how_low.ngrams import ORDERS as ORDERS
from timemachine.how_low.ngrams import kneser_ney as kneser_ney
from timemachine.how_low.ngrams import witten_bell as witten_bell
from timemachine.how_low.symbols import LETTERS as LETTERS
from timemachine.how_low.symbols import Symbols as Symbols
from timemachine.how_low.symbols import check_size as check_size
from timemachine.how_low.teacher import networks_of as networks_of
from timemachine.how_low.teacher import teacher_nll as teacher_nll
from timemachine.how_low.teacher import train_loader as train_loader
