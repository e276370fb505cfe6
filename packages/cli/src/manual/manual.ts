import { VERSION } from '@roost/api'
import { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { COMMANDS, type CommandEntry } from '../command-table.ts'
import { EXIT_CODES } from '../failure/failure.ts'
import { ENVIRONMENT } from '../help-text.ts'
import { type ManualCommand, manualPage } from './roff.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('manual')
    .description('The manual page of all commands, for man(1)')
  explained(command, {
    examples: [
      'roost manual | man -l -',
      'roost manual > /usr/local/share/man/man1/roost.1   # then: man roost',
    ],
    json: '{page}',
  })
  command.action(async (options: { json?: boolean }) => {
    const page = await manual(context)
    if (options.json) return printJson(context, { page })
    context.stdout.write(page)
  })
}

/** Made of the command table, so that no command is missing. */
export async function manual(context: CliContext): Promise<string> {
  const groups = []
  for (const { title, commands } of COMMANDS) {
    const described: ManualCommand[] = []
    for (const entry of commands) described.push(await describe(entry, context))
    groups.push({ title, commands: described })
  }
  return manualPage({
    version: VERSION,
    groups,
    environment: ENVIRONMENT,
    exitCodes: Object.entries(EXIT_CODES),
  })
}

async function describe(entry: CommandEntry, context: CliContext): Promise<ManualCommand> {
  const parent = new Command('roost')
  ;(await entry.load()).register(parent, context)
  const [command] = parent.commands
  const written: string[] = []
  command?.configureOutput({ writeOut: (text) => written.push(text) })
  command?.outputHelp()
  const help = written.join('')
  const examples = /\nExamples:\n([\s\S]*?)(?:\n\n|\n$|$)/.exec(help)?.[1] ?? ''
  return {
    words: entry.words.filter((word) => word !== undefined).join(' '),
    usage: command?.usage() ?? '',
    about: command?.description() || entry.summary,
    options: (command?.options ?? []).map(({ flags, description }) => ({
      flags,
      about: description,
    })),
    examples: examples
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line.startsWith('$ ')),
  }
}
