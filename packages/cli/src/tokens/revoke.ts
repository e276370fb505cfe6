import type { ApiClient, TokenReply } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { nearest } from '../config/reader.ts'
import { usage } from '../failure/failure.ts'
import { connect } from '../session/connect.ts'

interface Options {
  readonly keepMade?: boolean
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('revoke')
    .description('End tokens now, and those that were made with them; what they hold open ends too')
    .argument('<token...>', 'ids or names, as roost tokens list shows them')
    .option('--keep-made', 'leave those that were made with them')
  explained(command, {
    examples: ['roost tokens revoke ci', 'roost tokens revoke 5f1c09a2b7de --keep-made'],
    json: '[as in roost tokens list]: what was ended',
  })
  command.action(async (said: string[], options: Options) => {
    const client = connect(context)
    const ended: TokenReply[] = []
    for (const id of await idsOf(client, said)) {
      const query = options.keepMade ? { keep_made: 'true' as const } : {}
      const { revoked } = await client.revokeToken({ params: { token: id }, query })
      ended.push(...revoked)
      if (options.json) continue
      for (const token of revoked)
        context.stdout.write(`Revoked ${token.id} (${token.kind}, "${token.name}")\n`)
      if (revoked.length === 0) context.stdout.write(`${id} had been revoked already\n`)
    }
    if (options.json) printJson(context, ended)
  })
}

/** All are known before the first is ended. */
async function idsOf(client: ApiClient, said: readonly string[]): Promise<string[]> {
  const tokens = await client.listTokens({ query: { all: 'true' } })
  return [...new Set(said.map((word) => idOf(tokens, word)))]
}

function idOf(tokens: readonly TokenReply[], word: string): string {
  const byId = tokens.find(({ id }) => id === word)
  if (byId !== undefined) return byId.id
  const named = tokens.filter(({ name, state }) => name === word && state === 'active')
  const [only] = named
  if (named.length > 1)
    throw usage(
      `there are ${named.length} tokens called "${word}": say which by its id`,
      named.map(({ id, created_at }) => `roost tokens revoke ${id}   # made ${created_at}`),
    )
  if (only !== undefined) return only.id
  const near = nearest(word, tokens, ({ name }) => name)
  throw usage(`there is no token "${word}"`, [
    ...(near === null ? [] : [`roost tokens revoke ${near.id}   # "${near.name}"`]),
    'roost tokens list',
  ])
}
