import { once } from 'node:events'
import {
  ChannelCredentials,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js'

const asBytes = { serialize: (text: string) => Buffer.from(text), parse: (b: Buffer) => `${b}` }
const method = (path: string, stream: boolean) => ({
  path,
  requestStream: stream,
  responseStream: stream,
  requestSerialize: asBytes.serialize,
  requestDeserialize: asBytes.parse,
  responseSerialize: asBytes.serialize,
  responseDeserialize: asBytes.parse,
})
const SERVICE = {
  say: method('/trial.Trial/Say', false),
  chat: method('/trial.Trial/Chat', true),
}

/** For tests: a gRPC server without TLS that says each message again, after its name. */
export async function serveGrpc(address: string, name: string): Promise<() => void> {
  const server = new Server()
  server.addService(SERVICE, {
    say: (call: ServerUnaryCall<string, string>, done: sendUnaryData<string>) =>
      done(null, `${name}: ${call.request}`),
    chat: (call: ServerDuplexStream<string, string>) =>
      call
        .on('data', (text: string) => call.write(`${name}: ${text}`))
        .on('end', () => call.end())
        .on('error', () => call.destroy()),
  })
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(address, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  )
  return () => server.forceShutdown()
}

/** One call, then a stream of two messages, each sent when the one before was answered. */
export async function callGrpc(to: {
  readonly address: string
  readonly authority: string
  readonly ca: Buffer
}): Promise<readonly string[]> {
  const Client = makeGenericClientConstructor(SERVICE, 'Trial')
  const client = new Client(to.address, ChannelCredentials.createSsl(to.ca), {
    'grpc.ssl_target_name_override': to.authority,
    'grpc.default_authority': to.authority,
  })
  try {
    const deadline = { deadline: Date.now() + 5000 }
    const first = await new Promise<string>((resolve, reject) =>
      client.makeUnaryRequest(
        SERVICE.say.path,
        asBytes.serialize,
        asBytes.parse,
        'one',
        deadline,
        (error, text) => (error === null ? resolve(text ?? '') : reject(error)),
      ),
    )
    const { path } = SERVICE.chat
    const call = client.makeBidiStreamRequest(path, asBytes.serialize, asBytes.parse, deadline)
    const answers = [first]
    for (const text of ['a', 'b']) {
      call.write(text)
      answers.push(String((await once(call, 'data'))[0]))
    }
    call.end()
    await once(call, 'end')
    return answers
  } finally {
    client.close()
  }
}
