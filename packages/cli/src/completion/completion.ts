import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { suggestionsFor } from './answers.ts'
import { SCRIPTS, SHELLS, type Shell } from './scripts.ts'

const HOW: Readonly<Record<Shell, string>> = {
  bash: 'echo "source <(roost completion bash)" >> ~/.bashrc',
  zsh: 'echo "source <(roost completion zsh)" >> ~/.zshrc',
  fish: 'roost completion fish > ~/.config/fish/completions/roost.fish',
}

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('completion')
    .description('Let a shell complete commands, flags, names of apps, ids of machines')
    .argument('<shell>', SHELLS.join(', '))
    .argument('[words...]', 'of "answer", which the scripts call: what is typed so far')
  explained(command, {
    examples: Object.values(HOW),
    json: '{shell, script}; of "answer": [{word, about}]',
  })
  command.action(async (said: string, words: string[], options: { json?: boolean }) => {
    if (said === 'answer') {
      const found = await suggestionsFor(words, context)
      if (options.json) return printJson(context, found)
      context.stdout.write(found.map(({ word, about }) => `${word}\t${oneLine(about)}\n`).join(''))
      return
    }
    const shell = SHELLS.find((one) => one === said)
    if (shell === undefined)
      throw usage(`"${said}" is no shell that is known here: ${SHELLS.join(', ')}`, HOW.bash)
    if (options.json) return printJson(context, { shell, script: SCRIPTS[shell] })
    context.stdout.write(SCRIPTS[shell])
  })
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').slice(0, 80)
}
