"""What the figures share: a page that can be read in light and in dark, and the argument that asks for one."""

import argparse
from pathlib import Path

# Seen on white and on black, and told apart by those who do not see red and green.
COLOURS = ("#2b7bba", "#d9822b", "#2a9d6f", "#b0529c", "#8a8f98")

# plotly paints its own paper: let the page's show through, and let ink and grid follow the reader's preference.
_FOLLOW = """
const dark = matchMedia('(prefers-color-scheme: dark)'), page = document.getElementById('{plot_id}');
document.documentElement.style.colorScheme = 'light dark';
document.documentElement.lang = 'en';
function follow() {
  const ink = dark.matches ? '#e6e6e6' : '#222222', grid = dark.matches ? '#3d3d3d' : '#dddddd';
  const change = {'font.color': ink, 'title.font.color': ink};
  for (const axis of Object.keys(page._fullLayout).filter(key => /^[xy]axis[0-9]*$/.test(key)))
    for (const [part, colour] of [['gridcolor', grid], ['zerolinecolor', grid], ['linecolor', ink]])
      change[axis + '.' + part] = colour;
  Plotly.relayout(page, change);
}
dark.addEventListener('change', follow);
follow();
"""


def folder() -> Path | None:
    """Where the figure is to be written: what --out says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="a folder to write the figure into")
    return parser.parse_args().out


def write(figure: object, out: Path, name: str, title: str) -> None:
    """Write a plotly figure as a page; plotly itself lies beside it, once for all figures."""
    from plotly.graph_objects import Figure

    assert isinstance(figure, Figure)
    clear = "rgba(0,0,0,0)"
    figure.update_layout(title=title, paper_bgcolor=clear, plot_bgcolor=clear, colorway=COLOURS, template="none")
    figure.update_xaxes(automargin=True, showline=True)
    figure.update_yaxes(automargin=True, showline=True)
    out.mkdir(parents=True, exist_ok=True)
    figure.write_html(out / f"{name}.html", include_plotlyjs="directory", post_script=_FOLLOW)
