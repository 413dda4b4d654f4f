"""Models of signals in the style of public repositories: speech, forecasts, liquid cells, games, films, scans."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class SpeechLayer(nn.Module):
    def __init__(self, dim, p):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.lstm = nn.LSTM(dim, dim // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(p)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(self.norm(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = self.lstm(packed)
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.size(1))
        return x + self.dropout(y)


class SpeechRecogniser(nn.Module):
    """Frames are halved by a convolution, and two bidirectional layers read rows of unlike lengths."""

    def __init__(self, num_bands=8, dim=24, num_layers=2, num_symbols=6, p=0.1):
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(num_bands, dim, 3, stride=2, padding=1), nn.BatchNorm1d(dim), nn.ReLU()
        )
        self.layers = nn.ModuleList(SpeechLayer(dim, p) for _ in range(num_layers))
        self.head = nn.Linear(dim, num_symbols)

    def forward(self, frames, num_frames):
        x = self.front(frames.transpose(1, 2)).transpose(1, 2)
        lengths = (num_frames + 1) // 2
        for layer in self.layers:
            x = layer(x, lengths)
        return self.head(x).log_softmax(-1).transpose(0, 1), lengths


class RecurrentPolicy(nn.Module):
    """Policy and value on an LSTM whose state is wiped wherever an episode has ended."""

    def __init__(self, num_inputs=5, num_actions=3, dim=24):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(num_inputs, dim), nn.Tanh())
        self.lstm = nn.LSTM(dim, dim)
        for name, p in self.lstm.named_parameters():
            nn.init.zeros_(p) if name.startswith("bias") else nn.init.orthogonal_(p)
        self.policy, self.value = nn.Linear(dim, num_actions), nn.Linear(dim, 1)

    def initial_state(self, num_envs):
        zeros = torch.zeros(1, num_envs, self.lstm.hidden_size)
        return zeros, zeros.clone()

    def remember(self, features, state, dones):
        outputs = []
        for x, done in zip(features, dones, strict=True):
            alive = (1.0 - done).view(1, -1, 1)
            out, state = self.lstm(x.unsqueeze(0), (alive * state[0], alive * state[1]))
            outputs.append(out)
        return torch.cat(outputs), state

    def forward(self, obs, dones, actions, h0, c0):
        out, _ = self.remember(self.body(obs), (h0, c0), dones)
        dist = Categorical(logits=self.policy(out))
        return dist.log_prob(actions), dist.entropy(), self.value(out).squeeze(-1)


class DeepAR(nn.Module):
    """A Gaussian for the next value at every step; where a value is missing, the last mean takes its place."""

    def __init__(self, num_series=4, num_covariates=2, dim=16, num_layers=2, p=0.1):
        super().__init__()
        self.series = nn.Embedding(num_series, 3)
        self.lstm = nn.LSTM(1 + num_covariates + 3, dim, num_layers, dropout=p)
        self.mu, self.sigma = nn.Linear(dim * num_layers, 1), nn.Linear(dim * num_layers, 1)

    def step(self, value, covariates, series, state):
        x = torch.cat([value.unsqueeze(-1), covariates, self.series(series)], dim=-1)
        _, state = self.lstm(x.unsqueeze(0), state)
        top = state[0].transpose(0, 1).flatten(1)
        return self.mu(top).squeeze(-1), F.softplus(self.sigma(top)).squeeze(-1) + 1e-3, state

    def forward(self, values, covariates, series):
        mus, sigmas, state = [], [], None
        mu = torch.zeros_like(values[0])
        for t in range(len(values)):
            value = torch.where(torch.isnan(values[t]), mu, values[t])
            mu, sigma, state = self.step(value, covariates[t], series, state)
            mus.append(mu)
            sigmas.append(sigma)
        return torch.stack(mus), torch.stack(sigmas)


class Synapses(nn.Module):
    def __init__(self, n_from, n_to):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(n_from, n_to))
        self.slope = nn.Parameter(torch.empty(n_from, n_to).uniform_(3.0, 8.0))
        self.middle = nn.Parameter(torch.empty(n_from, n_to).uniform_(0.3, 0.8))
        self.reversal = nn.Parameter(torch.randint(0, 2, (n_from, n_to)) * 2.0 - 1.0)

    def forward(self, v):
        open_ = F.softplus(self.weight) * torch.sigmoid(self.slope * (v.unsqueeze(-1) - self.middle))
        return (open_ * self.reversal).sum(1), open_.sum(1)


class LiquidCell(nn.Module):
    """Liquid time constants: the solver is called several times within a step of time."""

    def __init__(self, num_inputs, units, unfolds=6):
        super().__init__()
        self.units, self.unfolds = units, unfolds
        self.sensory, self.inner = Synapses(num_inputs, units), Synapses(units, units)
        self.leak = nn.Parameter(torch.rand(units))
        self.rest = nn.Parameter(torch.empty(units).uniform_(-0.2, 0.2))
        self.capacity = nn.Parameter(torch.empty(units).uniform_(0.4, 0.6))

    def solve(self, v, sensed, dt):
        current, conductance = self.inner(v)
        leak, capacity = F.softplus(self.leak), F.softplus(self.capacity) / dt
        above = capacity * v + leak * self.rest + current + sensed[0]
        return above / (capacity + leak + conductance + sensed[1] + 1e-8)

    def forward(self, x, v, elapsed=1.0):
        sensed = self.sensory(x)
        for _ in range(self.unfolds):
            v = self.solve(v, sensed, elapsed / self.unfolds)
        return v


class LiquidNetwork(nn.Module):
    def __init__(self, num_inputs=2, units=12, num_outputs=1):
        super().__init__()
        self.cell = LiquidCell(num_inputs, units)
        self.head = nn.Linear(units, num_outputs)

    def forward(self, x):
        v = x.new_zeros(x.size(0), self.cell.units)
        outputs = []
        for t in range(x.size(1)):
            v = self.cell(x[:, t], v)
            outputs.append(self.head(v))
        return torch.stack(outputs, dim=1)


class ConvLSTMCell(nn.Module):
    def __init__(self, channels_in, channels, kernel_size=3):
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels_in + channels, 4 * channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x, state):
        if state is None:
            zeros = x.new_zeros(x.size(0), self.channels, *x.shape[-2:])
            state = (zeros, zeros)
        h, c = state
        i, f, o, g = torch.chunk(self.conv(torch.cat([x, h], dim=1)), 4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class FramePredictor(nn.Module):
    """Convolutional LSTMs, one after the other over all frames, tell the next frame."""

    def __init__(self, channels=(5, 4)):
        super().__init__()
        self.cells = nn.ModuleList(ConvLSTMCell(a, b) for a, b in zip([1, *channels], channels, strict=False))
        self.head = nn.Conv2d(channels[-1], 1, 1)

    def forward(self, frames):
        x = frames
        for cell in self.cells:
            state, outputs = None, []
            for t in range(x.size(1)):
                out, state = cell(x[:, t], state)
                outputs.append(out)
            x = torch.stack(outputs, dim=1)
        return self.head(x[:, -1])


class SelectiveScan(nn.Module):
    """A block of a selective state space, over time in a loop, or all at once by cumulated sums."""

    def __init__(self, dim, num_states=4, kernel_size=3, at_once=False):
        super().__init__()
        inner = 2 * dim
        self.rank, self.num_states, self.at_once = max(1, dim // 8), num_states, at_once
        self.norm = nn.LayerNorm(dim)
        self.wide = nn.Linear(dim, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, kernel_size, groups=inner, padding=kernel_size - 1)
        self.select = nn.Linear(inner, self.rank + 2 * num_states, bias=False)
        self.dt = nn.Linear(self.rank, inner)
        self.log_decay = nn.Parameter(torch.arange(1.0, num_states + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.narrow = nn.Linear(inner, dim, bias=False)
        steps = torch.exp(torch.empty(inner).uniform_(-7.0, -2.5))
        self.dt.bias.data = steps.expm1().log()

    def scan(self, decay, driven, c):
        if self.at_once:
            total = decay.cumsum(1)
            h = total.exp() * (driven * (-total).exp()).cumsum(1)
            return (h * c.unsqueeze(2)).sum(-1)
        h, ys = torch.zeros_like(driven[:, 0]), []
        for t in range(driven.size(1)):
            h = decay[:, t].exp() * h + driven[:, t]
            ys.append((h * c[:, t].unsqueeze(1)).sum(-1))
        return torch.stack(ys, dim=1)

    def forward(self, x):
        u, gate = self.wide(self.norm(x)).chunk(2, dim=-1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.size(1)].transpose(1, 2))
        dt, b, c = self.select(u).split([self.rank, self.num_states, self.num_states], dim=-1)
        dt = F.softplus(self.dt(dt)).unsqueeze(-1)
        decay = -dt * self.log_decay.exp()
        driven = dt * b.unsqueeze(2) * u.unsqueeze(-1)
        y = self.scan(decay, driven, c) + self.skip * u
        return x + self.narrow(y * F.silu(gate))


class ScanModel(nn.Module):
    def __init__(self, num_symbols=8, dim=12, num_layers=2, at_once=False):
        super().__init__()
        self.embed = nn.Embedding(num_symbols, dim)
        self.blocks = nn.Sequential(*[SelectiveScan(dim, at_once=at_once) for _ in range(num_layers)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, num_symbols)

    def forward(self, symbols):
        return self.head(self.norm(self.blocks(self.embed(symbols))))
