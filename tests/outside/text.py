"""Models of text in the style of public repositories: translation, two language models, a pointer network."""

import itertools
import random

import torch
import torch.nn.functional as F
from torch import nn


class Reader(nn.Module):
    def __init__(self, num_words, dim, dropout):
        super().__init__()
        self.embed = nn.Embedding(num_words, dim, padding_idx=0)
        self.gru = nn.GRU(dim, dim, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, src):
        memory, last = self.gru(self.dropout(self.embed(src)))
        both = torch.cat([last[0], last[1]], dim=-1)
        return memory, torch.tanh(self.bridge(both)).unsqueeze(0)


class Writer(nn.Module):
    """One step of the decoder: the last attention vector is fed in beside the last word."""

    def __init__(self, num_words, dim, dropout):
        super().__init__()
        self.embed = nn.Embedding(num_words, dim)
        self.gru = nn.GRU(2 * dim, dim, batch_first=True)
        self.query = nn.Linear(dim, 2 * dim, bias=False)
        self.combine = nn.Linear(3 * dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(dim, num_words)

    def forward(self, word, fed, hidden, memory, src_mask):
        x = torch.cat([self.dropout(self.embed(word)), fed], dim=-1)
        out, hidden = self.gru(x.unsqueeze(1), hidden)
        scores = torch.bmm(self.query(out), memory.transpose(1, 2))
        scores = scores.masked_fill(src_mask.unsqueeze(1), float("-inf"))
        context = torch.bmm(scores.softmax(dim=-1), memory).squeeze(1)
        fed = torch.tanh(self.combine(torch.cat([context, out.squeeze(1)], dim=-1)))
        return self.logits(fed), fed, hidden


class Translator(nn.Module):
    def __init__(self, num_words=14, dim=16, dropout=0.1, teacher_forcing=0.5):
        super().__init__()
        self.reader = Reader(num_words, dim, dropout)
        self.writer = Writer(num_words, dim, dropout)
        self.teacher_forcing = teacher_forcing

    def forward(self, src, tgt):
        memory, hidden = self.reader(src)
        src_mask = src == 0
        word, fed = tgt[:, 0], memory.new_zeros(src.size(0), hidden.size(-1))
        logits = []
        for t in range(1, tgt.size(1)):
            step_logits, fed, hidden = self.writer(word, fed, hidden, memory, src_mask)
            logits.append(step_logits)
            word = tgt[:, t] if random.random() < self.teacher_forcing else step_logits.argmax(-1)
        return torch.stack(logits, dim=1)


class WordModel(nn.Module):
    """A language model whose embedding is its read-out, too."""

    def __init__(self, num_words=30, dim=24, num_layers=2, dropout=0.2):
        super().__init__()
        self.embed = nn.Embedding(num_words, dim)
        self.lstm = nn.LSTM(dim, dim, num_layers, dropout=dropout)
        self.head = nn.Linear(dim, num_words)
        self.head.weight = self.embed.weight
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embed.weight, std=0.1)
        nn.init.zeros_(self.head.bias)

    def init_state(self, batch_size):
        p = self.embed.weight
        shape = (self.lstm.num_layers, batch_size, self.lstm.hidden_size)
        return p.new_zeros(shape), p.new_zeros(shape)

    def forward(self, words, state):
        x = self.dropout(self.embed(words))
        x, state = self.lstm(x, state)
        return self.head(self.dropout(x)), state


class SameMask(nn.Module):
    """Dropout with one mask for all time steps."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(torch.ones_like(x[:1]), self.p)


class ThinnedLSTM(nn.Module):
    """An LSTM that is called with another part of its recurrent weights every time."""

    def __init__(self, input_size, hidden_size, p):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size)
        self.p = p
        raw = self.lstm.weight_hh_l0
        del self.lstm._parameters["weight_hh_l0"]
        self.lstm.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))
        self.refresh()

    def refresh(self):
        raw = self.lstm.weight_hh_l0_raw
        self.lstm.weight_hh_l0 = F.dropout(raw, self.p, self.training)

    def forward(self, x, state=None):
        self.refresh()
        return self.lstm(x, state)


class ThinnedWordModel(nn.Module):
    def __init__(self, num_words=30, dim=20, hidden=28, num_layers=2, p_weight=0.4, p_input=0.2, p_output=0.2):
        super().__init__()
        sizes = [dim, *[hidden] * (num_layers - 1), dim]
        self.embed = nn.Embedding(num_words, dim)
        self.layers = nn.ModuleList(ThinnedLSTM(a, b, p_weight) for a, b in itertools.pairwise(sizes))
        self.drop_in, self.drop_out = SameMask(p_input), SameMask(p_output)
        self.bias = nn.Parameter(torch.zeros(num_words))
        nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, words, states=None):
        x = self.drop_in(self.embed(words))
        new_states = []
        for i, layer in enumerate(self.layers):
            x, state = layer(x, states[i] if states is not None else None)
            x = self.drop_out(x)
            new_states.append(state)
        return F.linear(x, self.embed.weight, self.bias), new_states


class PointerNetwork(nn.Module):
    """Reads items with an LSTM, and points at all of them, one after the other."""

    def __init__(self, num_features=1, dim=20):
        super().__init__()
        self.embed = nn.Linear(num_features, dim)
        self.encoder = nn.LSTM(dim, dim, batch_first=True)
        self.decoder = nn.LSTMCell(dim, dim)
        self.go = nn.Parameter(0.1 * torch.randn(dim))
        self.w_memory, self.w_query = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, 1, bias=False)

    def point(self, query, keys, used):
        scores = self.v(torch.tanh(keys + self.w_query(query)[:, None])).squeeze(-1)
        return scores.masked_fill(used, -1e4).log_softmax(-1)

    def forward(self, items, order=None):
        rows = torch.arange(len(items), device=items.device)
        x = self.embed(items)
        memory, (h, c) = self.encoder(x)
        h, c = h.squeeze(0), c.squeeze(0)
        keys = self.w_memory(memory)
        used = torch.zeros(items.shape[:2], dtype=torch.bool, device=items.device)
        inp = self.go.expand(len(items), -1)
        log_probs = []
        for step in range(items.size(1)):
            h, c = self.decoder(inp, (h, c))
            log_p = self.point(h, keys, used)
            log_probs.append(log_p)
            choice = log_p.argmax(-1) if order is None else order[:, step]
            used = used.clone()
            used[rows, choice] = True
            inp = x[rows, choice]
        return torch.stack(log_probs, dim=1)
