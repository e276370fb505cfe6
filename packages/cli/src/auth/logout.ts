import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { readContexts, removeContext } from '../session/contexts.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('logout')
    .description('Forget a server and its token; the token itself stays valid')
    .argument('[name]', 'default: the server in use')
  explained(command, {
    examples: ['roost auth logout', 'roost auth logout playground'],
    json: '{name, current: name | null}',
  })
  command.action((said: string | undefined, options: { json?: boolean }) => {
    const { current, all } = readContexts(context.env)
    const name = said ?? current
    if (name === null) throw usage('nobody is logged in here', 'roost auth login URL')
    if (!removeContext(name, context.env))
      throw usage(
        `there is no server "${name}" here${all.length === 0 ? '' : `: there is ${all.map((one) => one.name).join(', ')}`}`,
      )
    const left = readContexts(context.env).current
    if (options.json) return printJson(context, { name, current: left })
    context.stdout.write(`Forgot ${name}.${left === null ? '' : ` Now in use: ${left}.`}\n`)
  })
}
