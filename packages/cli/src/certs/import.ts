import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { recordText } from './certificate-text.ts'
import { takenName, typedHostname } from './hostname.ts'

interface Options extends AppOptions {
  readonly fullchain: string
  readonly privateKey: string
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('import')
      .description(
        'Serve a certificate that you have. It goes before an ordered one while it is valid; nobody renews it but you',
      )
      .argument('<hostname>', 'a name that the certificate is for')
      .requiredOption('--fullchain <file>', 'PEM: the own certificate first, then who signed it')
      .requiredOption('--private-key <file>', 'PEM, without a passphrase'),
  )
  explained(command, {
    examples: [
      'roost certs import www.example.com --fullchain fullchain.pem --private-key privkey.pem',
    ],
    json: 'as roost certs check --json',
  })
  command.action(async (typed: string, options: Options) => {
    const hostname = typedHostname(typed)
    const fullchain = fileText(context, options.fullchain, 'CERTIFICATE', '--fullchain')
    const key = fileText(context, options.privateKey, 'PRIVATE KEY', '--private-key')
    await withApp(context, options, async ({ client, params, app }) => {
      const body = { hostname, fullchain, private_key: key }
      const reply = await client.addCustomCertificate({ params, body }).catch((error: unknown) => {
        throw takenName(error, hostname)
      })
      if (options.json) return printJson(context, reply)
      if (reply.status === 'active') {
        context.stdout.write(`${hostname} leads to ${app} with this certificate.\n`)
        return
      }
      const ways = reply.dns_findings.filter(
        ({ type, name, state }) => state !== 'right' && (type === 'TXT' || name === hostname),
      )
      context.stdout.write(
        [
          `The certificate is kept, and served once DNS says that ${hostname} is yours. One of:`,
          ...ways.map((one) => `  ${recordText(one)}`),
          `Then: roost certs check ${hostname} -a ${app}`,
          '',
        ].join('\n'),
      )
    })
  })
}

const BYTES_MAX = 100_000

function fileText(context: CliContext, file: string, holds: string, flag: string): string {
  let text: string
  try {
    text = readFileSync(resolve(context.cwd, file), 'utf8')
  } catch (error) {
    throw usage(`${flag}: ${file} can not be read: ${(error as Error).message}`)
  }
  if (text.length <= BYTES_MAX && text.includes('-----BEGIN') && text.includes(`${holds}-----`))
    return text
  throw usage(`${flag}: ${file} holds no ${holds.toLowerCase()} in PEM`, [
    `openssl ${holds === 'CERTIFICATE' ? 'x509' : 'pkey'} -inform DER -in ${file}   # if it is DER`,
  ])
}
