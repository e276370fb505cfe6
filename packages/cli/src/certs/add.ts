import { CHALLENGES, type Challenge } from '@roost/core'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { missingRecords, recordText } from './certificate-text.ts'
import { takenName, typedHostname } from './hostname.ts'

interface Options extends AppOptions {
  readonly challenge?: string
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('add')
      .description(
        'Let a name of your own lead to an app. Its certificate is ordered as soon as DNS leads here, and renewed by itself',
      )
      .argument(
        '<hostname>',
        "www.example.com, or '*.example.com' for all names with one more label",
      ),
  ).option(
    '--challenge <kind>',
    'prove the name only this way: http-01, tls-alpn-01 (port 80 is closed), dns-01 (wildcards)',
  )
  explained(command, {
    examples: [
      'roost certs add www.example.com -a shop',
      "roost certs add '*.example.com'   # needs a CNAME for _acme-challenge.example.com",
      'roost certs add www.example.com --challenge tls-alpn-01',
    ],
    json: 'as roost certs check --json',
  })
  command.action(async (typed: string, options: Options) => {
    const hostname = typedHostname(typed)
    const challenge = checkedChallenge(options.challenge)
    await withApp(context, options, async ({ client, params, app }) => {
      const body = { hostname, ...(challenge === null ? {} : { challenge }) }
      const reply = await client.addAcmeCertificate({ params, body }).catch((error: unknown) => {
        throw takenName(error, hostname)
      })
      if (options.json) return printJson(context, reply)
      const missing = missingRecords(reply).filter(({ state }) => state !== 'unknown')
      const lines = [`${hostname} leads to ${app}.`]
      if (missing.length > 0)
        lines.push('Set at who keeps your DNS:', ...missing.map((one) => `  ${recordText(one)}`))
      else lines.push('Its DNS leads here: the certificate is being ordered.')
      lines.push(`See how it goes: roost certs check ${hostname} -a ${app}`)
      context.stdout.write(`${lines.join('\n')}\n`)
    })
  })
}

function checkedChallenge(said: string | undefined): Challenge | null {
  if (said === undefined) return null
  const challenge = CHALLENGES.find((one) => one === said)
  if (challenge !== undefined) return challenge
  throw usage(`"${said}" is no challenge: there is ${CHALLENGES.join(', ')}`)
}
