//! What the keys do. Nothing here changes the machine, and there is nothing that could.

use super::{Order, View, Watch};
use whydrop_model::text;

/// Longest filter.
const LONGEST: usize = 60;
/// Lines of a page.
const PAGE: usize = 10;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A letter, digit or sign.
    Char(char),
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// Ten lines.
    PageUp,
    /// Ten lines.
    PageDown,
    /// Opens.
    Enter,
    /// Back; never ends the program.
    Escape,
    /// Takes back the last letter of what is typed.
    Backspace,
    /// The next screen.
    Tab,
    /// Ctrl-R.
    Reset,
    /// Ctrl-C.
    Interrupt,
}

/// What a key asks of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Draw again.
    Draw,
    /// End.
    Quit,
    /// Write a recording of the last round.
    Write,
    /// Give this to the clipboard of the terminal.
    Copy(String),
    /// Look more often, or less.
    Faster(bool),
}

impl Watch {
    /// Takes a key at a second since the first round began.
    pub fn key(&mut self, key: Key, second: u64) -> Ask {
        self.key_at = Some(second);
        self.message = None;
        if key != Key::Interrupt && self.typing.is_some() {
            self.typed(key);
            return Ask::Draw;
        }
        match key {
            Key::Interrupt | Key::Char('q') => return Ask::Quit,
            Key::Char('w') => return Ask::Write,
            Key::Char('+') => return Ask::Faster(true),
            Key::Char('-') => return Ask::Faster(false),
            Key::Char('y') => return self.copy(),
            Key::Escape => self.back(),
            Key::Char(digit @ '1'..='6') => {
                let index = digit.to_digit(10).unwrap_or(1) as usize - 1;
                self.open(View::ALL.get(index).copied().unwrap_or(View::Now));
            }
            Key::Tab => {
                let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
                self.open(View::ALL.get((at + 1) % View::ALL.len()).copied().unwrap_or(View::Now));
            }
            Key::Char('?') => self.open(View::Keys),
            Key::Enter => self.open(View::Cause),
            Key::Char('F') => self.open(View::Fix),
            Key::Char('e') => self.open(View::Explain),
            Key::Up | Key::Char('k' | 'N') => self.step(-1),
            Key::Down | Key::Char('j' | 'n') => self.step(1),
            Key::PageUp => self.step(-(PAGE as isize)),
            Key::PageDown => self.step(PAGE as isize),
            Key::Char('g') => self.step(isize::MIN),
            Key::Char('G') => self.step(isize::MAX),
            Key::Char('/') => self.typing = Some(String::new()),
            Key::Char('s') => self.reorder(),
            Key::Char('t') => self.next_target(),
            Key::Char(' ' | 'f') => self.held = if self.held.is_some() { None } else { Some(0) },
            Key::Char('[') => {
                let most = self.rounds.len().saturating_sub(1);
                self.held = Some((self.held.unwrap_or(0) + 1).min(most));
            }
            Key::Char(']') => self.held = self.held.map(|back| back.saturating_sub(1)),
            Key::Char('z') | Key::Reset => self.zero(),
            Key::Char('L') => self.lang = self.lang.other(),
            Key::Backspace | Key::Char(_) => {}
        }
        Ask::Draw
    }

    /// A key while a filter is typed: Enter takes it, Escape leaves the old one.
    fn typed(&mut self, key: Key) {
        let Some(text) = &mut self.typing else { return };
        match key {
            Key::Enter => {
                self.filter = std::mem::take(text);
                self.typing = None;
                self.scroll = 0;
            }
            Key::Escape => self.typing = None,
            Key::Backspace => drop(text.pop()),
            Key::Char(letter) if text.len() < LONGEST => text.push(letter),
            _ => {}
        }
    }

    /// To the list; there, what narrows it goes.
    fn back(&mut self) {
        if self.view == View::Now {
            self.filter.clear();
            self.target = None;
        }
        self.open(View::Now);
    }

    fn open(&mut self, view: View) {
        self.view = view;
        self.scroll = 0;
    }

    fn step(&mut self, lines: isize) {
        if self.view != View::Now {
            // The screen knows where it ends.
            self.scroll = self.scroll.saturating_add_signed(lines);
            return;
        }
        let listed = self.listed();
        let at = self.selected().and_then(|(number, _)| listed.iter().position(|(n, _)| *n == number));
        let to = at.unwrap_or(0).saturating_add_signed(lines).min(listed.len().saturating_sub(1));
        self.cursor = listed.get(to).map(|(_, cause)| cause.identity.clone());
    }

    fn reorder(&mut self) {
        let (order, said) = match self.order {
            Order::Lately => (Order::Lost, text!("sorted by what was lost", "按丢失总数排序")),
            Order::Lost => (Order::Place, text!("sorted by place", "按位置排序")),
            Order::Place => (Order::Lately, text!("sorted by the last minute", "按最近一分钟排序")),
        };
        self.order = order;
        self.message = Some(said.get(self.lang).to_owned());
        self.sort();
    }

    /// The next of those that have something to show, and after the last all of them.
    fn next_target(&mut self) {
        let mut names: Vec<String> = self.causes.iter().map(|cause| cause.target.clone()).collect();
        names.sort();
        names.dedup();
        self.target = match &self.target {
            None => names.into_iter().next(),
            Some(now) => names.into_iter().find(|name| name > now),
        };
    }

    /// The first command of the chosen cause's fix.
    fn copy(&mut self) -> Ask {
        match self.selected().and_then(|(_, cause)| cause.fix.commands.first().cloned()) {
            Some(command) => {
                let said = text!("copied: {command}", "已复制：{command}").fill(&[("command", &command)]);
                self.message = Some(said.get(self.lang).to_owned());
                Ask::Copy(command)
            }
            None => {
                let said = text!("there is no command to copy", "没有可复制的命令");
                self.message = Some(said.get(self.lang).to_owned());
                Ask::Draw
            }
        }
    }
}
