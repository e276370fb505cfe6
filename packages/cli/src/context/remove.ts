import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { knownContext, readContexts, removeContext } from '../session/contexts.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('remove')
    .description('Forget servers and their tokens; the tokens themselves stay valid')
    .argument('<name...>', 'as roost context list shows them')
  explained(command, {
    examples: ['roost context remove playground'],
    json: '{removed: [name], current: name | null}',
  })
  command.action((said: string[], options: { json?: boolean }) => {
    const names = [...new Set(said.map((name) => knownContext(name, context.env).name))]
    for (const name of names) removeContext(name, context.env)
    const { current } = readContexts(context.env)
    if (options.json) return printJson(context, { removed: names, current })
    context.stdout.write(
      `Forgot ${names.join(', ')}.${current === null ? '' : ` In use: ${current}.`}\n`,
    )
  })
}
